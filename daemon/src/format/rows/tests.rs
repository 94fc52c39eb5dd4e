//! Round trips, fuzzing and golden bytes of all rows.

use super::journal::{JournalRecord, JournalWrite, decode_record, encode_record};
use super::key::{self, Space};
use super::*;
use crate::format::located::locate;
use crate::ids::{AssociationId, BlockId, Epoch, Ino};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn file() -> InodeRow {
    let link = Link { parent: Ino(300), name: b"shard-000123.tar".to_vec() };
    let row = InodeRow::new(FileKind::File, 0o644, (1000, 1000), 1_700_000_000_000_000_000, Some(link));
    let origin = Origin {
        key: "train/shards/shard-000123.tar".into(),
        etag: "\"9e107d9d372bb6826bd81d3542a419d6-18\"".into(),
        version: None,
    };
    InodeRow { size: 150_000_000, origin: Some(origin), ..row }
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1..=0x2eu8, 0x30..=0xffu8], 1..40)
}

fn any_kind() -> impl Strategy<Value = FileKind> {
    (0..7u8).prop_map(|code| FileKind::from_code(code).expect("a code"))
}

fn any_etag() -> impl Strategy<Value = String> {
    prop_oneof!["\"[0-9a-f]{32}\"", "[0-9a-f]{32}", "\"[0-9a-f]{32}-[0-9]{1,5}\"", "\"[0-9A-F]{32}\"", ".{0,40}"]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    (".{0,60}", any_etag(), of(".{0,40}")).prop_map(|(key, etag, version)| Origin { key, etag, version })
}

prop_compose! {
    fn any_inode()(
        kind in any_kind(),
        perm in 0..=0o7777u16,
        owner in any::<(u32, u32, u32)>(),
        size in any::<u64>(),
        times in any::<(i64, i64, i64)>(),
        same_times in any::<bool>(),
        posix_known in any::<bool>(),
        origin in of(any_origin()),
        layout in of(any::<(u8, u64)>()),
        link in of((any::<u64>(), any_name())),
        name_from_key in any::<bool>(),
        (rdev, local, attrs_changed, base) in any::<(u32, bool, bool, Option<u64>)>(),
        allocated in of(any::<u64>()),
        (norelease, noarchive, borrowed) in any::<(bool, bool, bool)>(),
    ) -> InodeRow {
        let (uid, gid, nlink) = owner;
        let (mtime_ns, atime_ns, ctime_ns) = if same_times { (times.0, times.0, times.0) } else { times };
        let tail = origin.as_ref().filter(|_| name_from_key).map(|o| o.key.rsplit(['/', '\0']).next().unwrap_or("").as_bytes().to_vec());
        let link = link.map(|(parent, name)| Link { parent: Ino(parent), name: tail.filter(|t| key::is_name(t)).unwrap_or(name) });
        let layout = layout.map(|(stripe_count, stripe_size)| Layout { stripe_count, stripe_size });
        let rdev = if kind.is_special() { rdev } else { 0 };
        InodeRow {
            kind,
            perm,
            uid,
            gid,
            nlink,
            size,
            atime_ns,
            mtime_ns,
            ctime_ns,
            posix_known,
            rdev,
            local,
            attrs_changed,
            base,
            allocated: allocated.filter(|_| base.is_some()),
            borrowed: borrowed && origin.is_some(),
            origin,
            norelease,
            noarchive,
            layout,
            link,
        }
    }
}

fn any_map() -> impl Strategy<Value = MapChunk> {
    vec(of(any::<[u8; 32]>().prop_map(BlockId)), 0..=64).prop_flat_map(|blocks| {
        let set = blocks.iter().enumerate().map(|(slot, block)| u64::from(block.is_some()) << slot).sum::<u64>();
        any::<u64>().prop_map(move |local| MapChunk { blocks: blocks.clone(), local: local & set })
    })
}

prop_compose! {
    fn any_task()(
        (kind, state) in (0..TaskKind::ALL.len(), 0..TaskState::ALL.len()),
        created_ns in any::<i64>(),
        (started_ns, ended_ns) in any::<(Option<i64>, Option<i64>)>(),
        (total, total_is_final, succeeded, failed, bytes) in any::<(u64, bool, u64, u64, u64)>(),
        last_error in ".{0,20}",
        report in of((".{0,20}", any::<u64>())),
        paths in vec(vec(any::<u8>(), 0..20), 0..4),
        options in proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..4),
        cursor in vec(any::<u8>(), 0..40),
    ) -> TaskRow {
        TaskRow {
            kind: TaskKind::ALL[kind],
            state: TaskState::ALL[state],
            started_ns,
            ended_ns,
            counters: TaskCounters { total, total_is_final, succeeded, failed, bytes },
            last_error,
            report: report.map(|(directory, spooled_bytes)| TaskReport { directory, spooled_bytes }),
            options,
            cursor,
            ..TaskRow::new(TaskKind::Import, paths, created_ns)
        }
    }
}

proptest! {
    #[test]
    fn tasks_round_trip(task in any_task()) {
        prop_assert_eq!(TaskRow::decode(&task.encode()), Ok(task));
    }

    #[test]
    fn a_damaged_task_row_gives_a_row_or_an_error(task in any_task(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut bytes = task.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        check_canonical(&bytes);
        bytes.truncate(at);
        prop_assert!(TaskRow::decode(&bytes).is_err());
    }

    #[test]
    fn import_cursors_round_trip(path in any::<u64>(), left in vec((of(".{0,9}"), of(".{0,9}")), 0..4), cuts in vec(".{0,9}", 0..4)) {
        let left = left.into_iter().map(|(start, end)| KeySpan { start, end }).collect();
        let cursor = ImportCursor { path, left, cuts };
        prop_assert_eq!(ImportCursor::decode(&cursor.encode()), Ok(cursor));
    }

    #[test]
    fn inodes_round_trip(inode in any_inode()) {
        prop_assert_eq!(InodeRow::decode(&inode.encode()), Ok(inode));
    }

    #[test]
    fn dirents_round_trip(ino in any::<u64>(), kind in any_kind()) {
        let dirent = Dirent { ino: Ino(ino), kind };
        prop_assert_eq!(Dirent::decode(&dirent.encode()), Ok(dirent));
    }

    #[test]
    fn listing_states_round_trip(complete in any::<bool>(), last_key in of(".{0,40}"), listed_at_ns in any::<i64>(), entries in any::<u64>()) {
        let state = ListingState { complete, last_key, listed_at_ns, entries };
        prop_assert_eq!(ListingState::decode(&state.encode()), Ok(state));
    }

    #[test]
    fn maps_round_trip_but_for_trailing_unknown_slots(map in any_map()) {
        let decoded = MapChunk::decode(&map.encode()).expect("decodes");
        let (known, trailing) = map.blocks.split_at(decoded.blocks.len());
        prop_assert_eq!(&decoded.blocks, known);
        prop_assert!(trailing.iter().all(Option::is_none));
    }

    #[test]
    fn numbers_round_trip(value in any::<u64>()) {
        prop_assert_eq!(decode_number(&encode_number(value)), Ok(value));
    }

    #[test]
    fn journal_records_round_trip_and_no_damage_passes(
        sequence in any::<u64>(),
        writes in vec((any::<u8>(), vec(any::<u8>(), 0..20), of(vec(any::<u8>(), 0..20))), 0..6),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let given: Vec<_> = writes.iter().map(|(table, key, value)| JournalWrite { table: *table, key, value: value.as_deref() }).collect();
        let mut bytes = encode_record(sequence, given.len(), given.iter().copied());
        let len = bytes.len();
        prop_assert_eq!(decode_record(&bytes), Ok(JournalRecord { sequence, writes: given, len }));
        let at = at.index(len);
        prop_assert!(decode_record(&bytes[..at]).is_err());
        bytes[at] ^= flip;
        prop_assert!(decode_record(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_a_journal_record_or_an_error(payload in vec(any::<u8>(), 0..60), sequence in any::<u64>()) {
        let mut bytes = encode_record(sequence, 0, std::iter::empty());
        bytes.truncate(16);
        bytes.extend_from_slice(&payload);
        bytes[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(record) = decode_record(&bytes) {
            let again = encode_record(record.sequence, record.writes.len(), record.writes.iter().copied());
            prop_assert_eq!(again, bytes);
        }
    }

    /// Bytes that begin like a row, so that the fuzzer gets past the version.
    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(mut bytes in vec(any::<u8>(), 0..120), version in any::<bool>()) {
        if version && !bytes.is_empty() {
            bytes[0] = ROW_VERSION;
        }
        check_canonical(&bytes);
    }

    #[test]
    fn a_damaged_inode_row_gives_a_row_or_an_error(inode in any_inode(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<bool>()) {
        let mut bytes = inode.encode();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(InodeRow::decode(&bytes).is_err());
        } else {
            bytes[at] ^= flip;
        }
        check_canonical(&bytes);
    }

    #[test]
    fn dirent_keys_sort_as_names_then_newest_first(a in any_name(), b in any_name(), e in 1..9u64, f in 1..9u64) {
        let key_of = |name: &[u8], epoch| key::versioned(&key::dirent(Ino(7), name), Epoch(epoch));
        let by_name_then_age = a.cmp(&b).then(f.cmp(&e));
        prop_assert_eq!(key_of(&a, e).cmp(&key_of(&b, f)), by_name_then_age);
    }

    #[test]
    fn bounds_of_a_directory_split_it_by_name(bound in any_name(), name in any_name(), epoch in 1..9u64) {
        let at = key::versioned(&key::dirent(Ino(7), &name), Epoch(epoch));
        prop_assert_eq!(at >= key::dirents_from(Ino(7), &bound), name >= bound);
        prop_assert_eq!(at >= key::dirents_after(Ino(7), &bound), name > bound);
    }

    #[test]
    fn keys_come_apart_again(name in any_name(), ino in any::<u64>(), epoch in any::<u64>()) {
        let at = key::versioned(&key::dirent(Ino(ino), &name), Epoch(epoch));
        let (prefix, found) = key::split_versioned(&at).expect("long enough");
        prop_assert_eq!(found, Epoch(epoch));
        prop_assert_eq!(key::leading_ino(prefix), Some(Ino(ino)));
        prop_assert_eq!(key::dirent_name(prefix), Some(name.as_slice()));
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_begin_with_it(prefix in vec(any::<u8>(), 1..8), tail in vec(any::<u8>(), 0..8)) {
        let full = [prefix.clone(), tail].concat();
        match key::after_prefix(&prefix) {
            Some(end) => prop_assert!(full < end && end > prefix),
            None => prop_assert!(prefix.iter().all(|&b| b == 0xff)),
        }
    }
}

fn check_canonical(bytes: &[u8]) {
    if let Ok(row) = QuotaRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = Usage::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = Charge::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = ChangeRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = AssociationRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = SnapshotRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = DoomedRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = UploadRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = Intent::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = ImportCursor::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = TaskRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = InodeRow::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = Dirent::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = ListingState::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(row) = MapChunk::decode(bytes) {
        assert_eq!(row.encode(), bytes);
    }
    if let Ok(value) = decode_number(bytes) {
        assert_eq!(encode_number(value), bytes);
    }
    if let Ok(text) = decode_text(bytes) {
        assert_eq!(encode_text(text), bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_inode() {
    let golden = concat!(
        "01",   // version
        "2001", // flags: origin, link
        "a403",
        "e807",
        "e807",
        "01",
        "80a3c347",         // perm uid gid nlink size
        "00002a36fe9c9717", // mtime
        "1d",
        "747261696e2f7368617264732f73686172642d3030303132332e746172", // key
        "02",
        "9e107d9d372bb6826bd81d3542a419d6",
        "12", // etag: quoted, 18 parts
        "ac02",
        "10", // parent 300, name: the key's last 16 bytes
    );
    assert_eq!(hex(&file().encode()), golden);
}

#[test]
fn golden_inode_of_a_written_file() {
    let link = Link { parent: Ino(1), name: b"f".to_vec() };
    let row = InodeRow::new(FileKind::File, 0o600, (0, 0), 0, Some(link));
    let row = InodeRow { size: 300, base: Some(2), allocated: Some(4096), local: true, ..row };
    let golden = concat!(
        "01",   // version
        "0037", // flags: link, name in full, local, base, allocated
        "8003",
        "00",
        "00",
        "01",
        "ac02",             // perm uid gid nlink size
        "0000000000000000", // mtime
        "02",               // base
        "8020",             // allocated
        "01",
        "0166", // parent, name
    );
    assert_eq!(hex(&row.encode()), golden);
    let before_counts = InodeRow { allocated: None, ..row };
    assert_eq!(hex(&before_counts.encode()), golden.replacen("0037", "0017", 1).replacen("028020", "02", 1));
    check_canonical(&before_counts.encode());
}

#[test]
fn golden_inode_of_a_file_whose_data_is_to_stay_or_not_to_go() {
    let row = file();
    let golden = hex(&row.encode());
    let stays = InodeRow { norelease: true, ..row.clone() };
    assert_eq!(hex(&stays.encode()), golden.replacen("2001", "2041", 1), "bit 14, and nothing else");
    let stays_out = InodeRow { noarchive: true, ..row };
    assert_eq!(hex(&stays_out.encode()), golden.replacen("2001", "2081", 1), "bit 15, and nothing else");
    check_canonical(&stays.encode());
}

#[test]
fn golden_preload_cursor() {
    let cursor = PreloadCursor { path: 1, below: b"a/b".to_vec(), offset: 300 };
    assert_eq!(hex(&cursor.encode()), "010103612f62ac02");
    assert_eq!(PreloadCursor::decode(&cursor.encode()), Ok(cursor));
}

#[test]
fn golden_small_rows() {
    assert_eq!(hex(&Dirent { ino: Ino(300), kind: FileKind::Symlink }.encode()), "0102ac02");
    let state = ListingState { complete: false, last_key: Some("a/b".into()), listed_at_ns: 1, entries: 1000 };
    assert_eq!(hex(&state.encode()), "01020100000000000000e80703612f62");
    let map = MapChunk { blocks: vec![None, Some(BlockId([7; 32])), None], local: 0 };
    assert_eq!(hex(&map.encode()), format!("010202{}", "07".repeat(32)));
    assert_eq!(hex(&encode_number(300)), "01ac02");
    assert_eq!(hex(&encode_text(b"x")), "0178");
    assert_eq!(hex(TOMBSTONE), "00");
}

#[test]
fn golden_quota_rows_and_keys() {
    let limits = QuotaLimits { bytes: Limit { soft: 1, hard: 300 }, inodes: Limit { soft: 0, hard: 2 } };
    let row = QuotaRow { limits, bytes_since_ns: 5, inodes_since_ns: 0 };
    assert_eq!(hex(&row.encode()), "0101ac02000205000000000000000000000000000000");
    assert_eq!(hex(&Usage { bytes: 4096, inodes: 3 }.encode()), "01802003");
    let charge = Charge { uid: 1000, gid: 5, bytes: 4096, project: None };
    assert_eq!(hex(&charge.encode()), "01e807058020");
    assert_eq!(hex(&Charge { project: Some(Ino(300)), ..charge }.encode()), "01e807058020ac02");
    let rows = [QuotaRow::decode(&row.encode()).map(drop), Charge::decode(&charge.encode()).map(drop)];
    assert_eq!(rows, [Ok(()), Ok(())]);
    for (id, expected) in [
        (QuotaId::User(258), "000000000000000102"),
        (QuotaId::Group(7), "010000000000000007"),
        (QuotaId::Project(Ino(9)), "020000000000000009"),
    ] {
        assert_eq!((hex(&key::quota(id)).as_str(), key::split_quota(&key::quota(id))), (expected, Some(id)));
        assert_eq!((hex(&key::usage(id, 3)), key::split_usage(&key::usage(id, 3))), (format!("{expected}03"), Some(id)));
    }
    assert_eq!(key::split_quota(&[3, 0, 0, 0, 0, 0, 0, 0, 1]), None, "no such kind");
    assert_eq!(key::split_quota(&[0, 1, 0, 0, 0, 0, 0, 0, 1]), None, "no such user");
}

#[test]
fn golden_intent() {
    let intent = Intent { size: 300, mtime_ns: Some(5), ctime_ns: 6, pieces: vec![(290, b"end".to_vec()), (2, Vec::new())] };
    let golden = concat!("0101", "ac02", "0600000000000000", "0500000000000000", "02", "a20203656e64", "0200");
    assert_eq!(hex(&intent.encode()), golden);
    assert_eq!(Intent::decode(&intent.encode()), Ok(intent.clone()));
    let timeless = Intent { mtime_ns: None, ..intent };
    assert_eq!(Intent::decode(&timeless.encode()), Ok(timeless));
    assert_eq!(key::split_intent(&key::intent(Ino(300), 7)), Some((Ino(300), 7)));
    assert_eq!(key::split_intent(&key::intent(Ino(300), 7)[..15]), None);
}

#[test]
fn golden_changes() {
    let change = ChangeRow { generation: 300, since_ns: 5 };
    assert_eq!(hex(&change.encode()), concat!("01", "ac02", "0500000000000000"));
    assert_eq!(ChangeRow::decode(&change.encode()), Ok(change));
    let doomed = DoomedRow { heir: Ino(7), since_ns: 5, etag: "e".into(), version: Some("v".into()) };
    assert_eq!(hex(&doomed.encode()), concat!("01", "07", "0500000000000000", "0165", "01", "0176"));
    assert_eq!(DoomedRow::decode(&doomed.encode()), Ok(doomed.clone()));
    let marker = DoomedRow { etag: String::new(), version: None, ..doomed };
    assert_eq!(DoomedRow::decode(&marker.encode()), Ok(marker));
    for (kind, golden) in [(UploadKind::Whole, "00"), (UploadKind::Beginning, "01"), (UploadKind::Parts("id".into()), "026964")] {
        let upload = UploadRow { write: 1, begun_ns: 5, kind };
        assert_eq!(hex(&upload.encode()), format!("01010500000000000000{golden}"));
        assert_eq!(UploadRow::decode(&upload.encode()), Ok(upload));
    }
    let located = locate(AssociationId(3), "a/b");
    assert_eq!(hex(&key::doomed(&located)), "00000003612f62");
    assert_eq!(key::split_doomed(&key::doomed(&located)), Some(located));
    assert_eq!(key::split_doomed(&key::doomed("a/b")).as_deref(), Some("a/b"));
    assert_eq!(key::split_doomed(&[0, 0, 1]), None);
    assert_eq!(key::split_upload(&key::upload(Ino(300), "a/b")), Some((Ino(300), "a/b")));
}

#[test]
fn golden_association() {
    let row = AssociationRow {
        root: Ino(300),
        state: AssociationState::Misconfigured,
        delete_data: true,
        created_ns: 5,
        auto_import: EventBits::new(true, false, true),
        auto_export: EventBits::new(false, true, false),
        on_conflict: 2,
        url: "s3://b/p".into(),
        options: [("region".to_owned(), "r".to_owned())].into(),
        failure: "no".into(),
    };
    let golden = concat!(
        "01",
        "ac02",
        "02",
        "01",
        "0500000000000000",
        "05",
        "02",
        "02",
        "0873333a2f2f622f70",
        "01",
        "06726567696f6e",
        "0172",
        "026e6f"
    );
    assert_eq!(hex(&row.encode()), golden);
    assert_eq!(AssociationRow::decode(&row.encode()), Ok(row.clone()));
    let with = |at: usize, byte: u8| {
        let mut bytes = row.encode();
        bytes[at] = byte;
        AssociationRow::decode(&bytes)
    };
    assert_eq!(with(3, 6), Err(RowError::Field("state")));
    assert_eq!(with(4, 2), Err(RowError::Field("flags")));
    assert_eq!(with(13, 8), Err(RowError::Field("events")));
    assert_eq!(key::split_association(&key::association(AssociationId(7))), Some(AssociationId(7)));
    assert_eq!(key::split_association(&[0; 5]), None);
}

#[test]
fn golden_import_cursor() {
    let left = vec![KeySpan::default(), KeySpan { start: Some("a".into()), end: Some("b/".into()) }];
    let cursor = ImportCursor { path: 1, left, cuts: vec!["a".into()] };
    assert_eq!(hex(&cursor.encode()), concat!("01", "01", "02", "00", "03", "0161", "02622f", "01", "0161"));
}

#[test]
fn golden_task() {
    let task = TaskRow {
        state: TaskState::Executing,
        started_ns: Some(6),
        counters: TaskCounters { total: 300, total_is_final: true, succeeded: 2, failed: 1, bytes: 4096 },
        last_error: "no".into(),
        report: Some(TaskReport { directory: "/r".into(), spooled_bytes: 9 }),
        options: [("prune".into(), "yes".into())].into(),
        cursor: vec![0xff],
        ..TaskRow::new(TaskKind::Export, vec![b"a/b".to_vec()], 5)
    };
    let golden = concat!(
        "01",
        "0101",
        "0d", // version, kind, state, flags
        "0500000000000000",
        "0600000000000000", // created, started
        "ac02",
        "02",
        "01",
        "8020",   // counters
        "026e6f", // last error
        "022f72",
        "09", // report
        "01",
        "03612f62", // paths
        "01",
        "057072756e65",
        "03796573", // options
        "01ff",     // cursor
    );
    assert_eq!(hex(&task.encode()), golden);
    assert_eq!(key::split_task(&key::task(7)), Some(7));
    assert_eq!(key::split_task(b"short"), None);
    let mut unknown = task.encode();
    unknown[1] = 9;
    assert_eq!(TaskRow::decode(&unknown), Err(RowError::Field("kind")));
}

#[test]
fn golden_journal_record() {
    let writes = [JournalWrite { table: 1, key: b"k", value: Some(b"v") }, JournalWrite { table: 2, key: b"", value: None }];
    let golden = concat!("0a000000", "205f82ad", "0500000000000000", "02", "01016b010176", "020000");
    assert_eq!(hex(&encode_record(5, 2, writes.into_iter())), golden);
}

#[test]
fn golden_keys() {
    let at = key::versioned(&key::dirent(Ino(2), b"a"), Epoch(1));
    assert_eq!(hex(&at), "00000000000000026100fffffffffffffffe");
    assert_eq!(hex(&key::versioned(&key::chunk(Ino(2), 3), Epoch(1))), "00000000000000020000000000000003fffffffffffffffe");
    assert_eq!(hex(&key::setting(Space::User, "id")), "016964");
    assert_eq!(hex(&key::hidden(Ino(2), "//")), "00000000000000022f2f");
}

#[test]
fn an_inode_with_key_and_etag_stays_small() {
    let bytes = file().encode().len();
    assert!(bytes <= 100, "{bytes} bytes");
}

#[test]
fn rows_of_a_later_version_are_named_as_such() {
    let mut bytes = file().encode();
    bytes[0] = 2;
    assert_eq!(InodeRow::decode(&bytes), Err(RowError::Version(2)));
    assert_eq!(InodeRow::decode(TOMBSTONE), Err(RowError::Version(0)));
    assert_eq!(InodeRow::decode(&[]), Err(RowError::Short));
}

#[test]
fn golden_snapshot() {
    let path = b"a/b".to_vec();
    let row = SnapshotRow { epoch: Epoch(300), root: Ino(7), created_ns: 5, path, deleting: true, materialized: false };
    assert_eq!(hex(&row.encode()), concat!("01", "01", "ac02", "07", "0500000000000000", "03612f62"));
    assert_eq!(SnapshotRow::decode(&row.encode()), Ok(row.clone()));
    let held = SnapshotRow { deleting: false, materialized: true, ..row.clone() };
    assert_eq!(held.encode()[1], 2);
    assert_eq!(SnapshotRow::decode(&held.encode()), Ok(held));
    let mut flags = row.encode();
    flags[1] = 4;
    assert_eq!(SnapshotRow::decode(&flags), Err(RowError::Field("flags")));
    let never = SnapshotRow { epoch: Epoch(0), ..row.clone() };
    assert_eq!(SnapshotRow::decode(&never.encode()), Err(RowError::Field("epoch")));
    let late = SnapshotRow { epoch: Epoch(Ino::LAST_EPOCH.0 + 1), ..row };
    assert_eq!(SnapshotRow::decode(&late.encode()), Err(RowError::Field("epoch")));
    let rewritten = key::rewritten(Epoch(9), 2, b"prefix");
    assert_eq!(key::split_rewritten(&rewritten), Some((Epoch(9), 2, &b"prefix"[..])));
    assert_eq!(key::split_rewritten(&[0; 8]), None);
}
