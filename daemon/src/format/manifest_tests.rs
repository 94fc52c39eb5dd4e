use super::*;
use proptest::prelude::*;

fn entry(path: &[u8], node: Node) -> Entry {
    Entry { path: path.to_vec(), perm: 0o644, uid: 1, gid: 2, mtime_ns: 3, xattrs: BTreeMap::new(), node }
}

fn file(size: u64) -> Node {
    let object = Origin { key: "k/ö".into(), etag: "\"e\"".into(), version: Some("v1".into()) };
    Node::File { size, object: (size > 0).then_some(object) }
}

fn sample() -> Vec<Entry> {
    let mut all = vec![
        entry(b"", Node::Directory),
        entry(b"a", Node::Directory),
        entry(b"a/x \xff%\n", file(7)),
        entry(b"a-b", file(0)),
        entry(b"l", Node::Symlink { target: b"a/\xfe".to_vec() }),
        entry(b"p", Node::Special { kind: FileKind::CharDevice, rdev: 0x103 }),
    ];
    all[0].perm = 0o2755;
    all[3].xattrs = BTreeMap::from([(b"user.n".to_vec(), b"\0v".to_vec())]);
    all
}

fn encoded(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header { name: b"one \xff".to_vec(), path: b"data".to_vec(), taken_ns: 5 };
    let mut encoder = Encoder::begin(&header, &mut out);
    entries.iter().for_each(|entry| encoder.entry(entry, &mut out));
    encoder.end(&mut out);
    out
}

fn decoded(bytes: &[u8]) -> Result<(Header, Vec<Entry>, End), ManifestError> {
    let mut decoder = Decoder::new();
    let entries = decoder.feed(bytes)?;
    let header = decoder.header().cloned();
    let end = decoder.end()?;
    Ok((header.ok_or(ManifestError::Foreign)?, entries, end))
}

#[test]
fn a_manifest_has_these_bytes() {
    let text = String::from_utf8(encoded(&sample())).expect("manifests are text");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let expected = [
        r#"{"forebay":"snapshot","version":1,"name":"one %FF","path":"data","taken_ns":5}"#,
        r#"{"path":"","kind":"dir","mode":"2755","uid":1,"gid":2,"mtime_ns":3}"#,
        r#"{"path":"a","kind":"dir","mode":"0644","uid":1,"gid":2,"mtime_ns":3}"#,
        r#"{"path":"a/x %FF%25%0A","kind":"file","mode":"0644","uid":1,"gid":2,"mtime_ns":3,"size":7,"key":"k/ö","etag":"\"e\"","version":"v1"}"#,
        r#"{"path":"a-b","kind":"file","mode":"0644","uid":1,"gid":2,"mtime_ns":3,"size":0,"xattrs":{"user.n":"%00v"}}"#,
        r#"{"path":"l","kind":"symlink","mode":"0644","uid":1,"gid":2,"mtime_ns":3,"target":"a/%FE"}"#,
        r#"{"path":"p","kind":"char","mode":"0644","uid":1,"gid":2,"mtime_ns":3,"rdev":259}"#,
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line.trim_end(), expected);
    }
    assert_eq!(lines.len(), expected.len() + 1);
    let before: String = lines[..expected.len()].concat();
    let digest = blake3::hash(before.as_bytes()).to_hex();
    assert_eq!(lines[expected.len()], format!("{{\"entries\":6,\"blake3\":\"{digest}\"}}\n"));
    assert_eq!(digest.as_str(), "6a0b7b2daba282ca6ba72d589c7825a105ab7754223fcfcf6e648da950ff075a");
}

#[test]
fn keys_of_a_snapshot_lie_below_its_name() {
    assert_eq!(manifest_key("", b"s"), ".forebay/snapshots/s/manifest");
    assert_eq!(data_prefix("a/b/", b"\xff%"), "a/b/.forebay/snapshots/%FF%25/data/");
}

#[test]
fn what_is_written_is_read_back_however_it_is_cut_into_pieces() {
    let bytes = encoded(&sample());
    let (header, entries, end) = decoded(&bytes).expect("a whole one");
    assert_eq!((header.name.as_slice(), header.path.as_slice(), header.taken_ns), (&b"one \xff"[..], &b"data"[..], 5));
    assert_eq!((entries.as_slice(), end.entries), (sample().as_slice(), 6));
    for size in [1, 7, 100] {
        let mut decoder = Decoder::new();
        let read: Vec<Entry> = bytes.chunks(size).flat_map(|piece| decoder.feed(piece).expect("goes on")).collect();
        assert_eq!((read.as_slice(), decoder.end()), (sample().as_slice(), Ok(end)));
    }
}

#[test]
fn a_cut_a_mixed_and_a_foreign_manifest_are_told_apart() {
    let bytes = encoded(&sample());
    let header = bytes.iter().position(|byte| *byte == b'\n').expect("lines");
    for at in 0..bytes.len() {
        let error = decoded(&bytes[..at]).expect_err("it is cut");
        let is_clear = matches!(error, ManifestError::Cut(_)) || (at <= header && error == ManifestError::Foreign);
        assert!(is_clear, "cut at {at}: {error}");
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |left_out: usize| -> Vec<u8> {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != left_out);
        kept.flat_map(|(_, line)| line.iter().copied()).collect()
    };
    assert_eq!(decoded(&without(6)), Err(ManifestError::Mixed), "an entry is missing");
    assert!(matches!(decoded(&without(2)), Err(ManifestError::Line { line: 3, .. })), "a directory is missing");
    let flipped = String::from_utf8(bytes.clone()).expect("text").replace("\"v1\"", "\"v2\"");
    assert_eq!(decoded(flipped.as_bytes()), Err(ManifestError::Mixed));
    assert_eq!(decoded(&[bytes.as_slice(), b"x"].concat()), Err(ManifestError::Mixed));
    assert_eq!(decoded(&[bytes.as_slice(), &bytes].concat()), Err(ManifestError::Mixed));
    assert_eq!(decoded(b"<html></html>\n"), Err(ManifestError::Foreign));
    assert_eq!(decoded(b""), Err(ManifestError::Foreign));
    let newer = String::from_utf8(bytes).expect("text").replacen("\"version\":1", "\"further\":0,\"version\":2", 1);
    assert_eq!(decoded(newer.as_bytes()), Err(ManifestError::Version(2)));
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let root = entry(b"", Node::Directory);
    for (entries, says) in [
        (vec![entry(b"a", Node::Directory)], "first entry"),
        (vec![entry(b"", file(0))], "first entry"),
        (vec![root.clone(), entry(b"b", file(0)), entry(b"a", file(0))], "does not come after"),
        (vec![root.clone(), entry(b"b", file(0)), entry(b"b", file(0))], "does not come after"),
        (vec![root.clone(), entry(b"b", file(0)), entry(b"b/c", file(0))], "is missing"),
        (vec![root.clone(), entry(b"..", Node::Directory)], "a name"),
        (vec![root.clone(), entry(b"a/", file(0))], "a name"),
        (vec![root.clone(), entry(b"a", Node::File { size: 1, object: None })], "if it has bytes"),
        (vec![root, Entry { perm: 0o10000, ..entry(b"a", file(0)) }], "the mode"),
    ] {
        let error = decoded(&encoded(&entries)).expect_err("is refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..600) {
        let _ = decoded(&bytes);
        let mut damaged = encoded(&sample());
        let at = at % damaged.len();
        let end = (at + bytes.len()).min(damaged.len());
        damaged.splice(at..end, bytes);
        if let Ok((_, entries, _)) = decoded(&damaged) {
            prop_assert_eq!(entries, sample());
        }
    }
}
