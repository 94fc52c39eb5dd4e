//! Figures of data on a real mount: they say what is there, and equal blocks are stored once.

use super::hsm::{noise, task};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::Settings;
use forebay_daemon::task::{TaskKind, TaskState};
use forebay_daemon::vfs::{Figures, SnapshotFigures};
use std::os::unix::fs::{FileExt, MetadataExt};

const BLOCK: u64 = Settings::BLOCK_SIZE as u64;

fn of(mount: &Mounted, path: &str) -> Figures {
    mount.fs.runtime().block_on(mount.fs.vfs().figures_of(path.as_bytes())).expect("counts")
}

fn of_all(mount: &Mounted) -> Figures {
    mount.fs.runtime().block_on(mount.fs.vfs().figures()).expect("counts")
}

fn of_snapshot(mount: &Mounted, name: &str) -> SnapshotFigures {
    mount.fs.runtime().block_on(mount.fs.vfs().snapshot_figures(name.as_bytes())).expect("counts")
}

fn take(mount: &Mounted, name: &str) {
    mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), b"")).expect("takes");
}

fn write(mount: &Mounted, name: &str, bytes: &[u8]) {
    std::fs::write(mount.path(name), bytes).expect("writes");
    std::fs::File::open(mount.path(name)).and_then(|file| file.sync_all()).expect("syncs");
}

#[test]
fn a_file_written_twice_and_one_shifted_by_whole_blocks_take_no_further_space() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let body = noise(1, 20 * BLOCK as usize + 777);
    let len = body.len() as u64;
    write(&mount, "one", &body);
    let once = of(&mount, "");
    assert_eq!((once.files, once.logical_bytes, once.referenced_bytes, once.unique_bytes), (1, len, len, len));
    assert!((len..len + 4096).contains(&once.stored_bytes) && once.copy_bytes == 0, "{once:?}");

    write(&mount, "two", &body);
    let twice = of(&mount, "");
    assert_eq!(twice, Figures { files: 2, logical_bytes: 2 * len, referenced_bytes: 2 * len, ..once });
    assert_eq!(of(&mount, "two"), once, "of one of them alone, it is all there is");

    let front = noise(2, 3 * BLOCK as usize);
    write(&mount, "shifted", &[front.as_slice(), &body].concat());
    let shifted = of(&mount, "");
    let more = |stored| Figures {
        files: 3,
        logical_bytes: 3 * len + 3 * BLOCK,
        referenced_bytes: 3 * len + 3 * BLOCK,
        unique_bytes: len + 3 * BLOCK,
        stored_bytes: stored,
        ..once
    };
    assert_eq!(shifted, more(shifted.stored_bytes));
    let grown = shifted.stored_bytes - once.stored_bytes;
    assert_eq!(grown, 3 * BLOCK, "only what stands before it is stored");
    // The store has that and no more, and each file looks as large as it is.
    let stats = mount.fs.status().cache;
    assert_eq!((stats.plain_bytes, stats.stored_bytes), (shifted.unique_bytes, shifted.stored_bytes));
    assert_eq!(of_all(&mount), Figures { unlisted_directories: None, ..shifted });
    eventually("status has heard of it", || {
        mount.fs.runtime().block_on(mount.fs.vfs().recent_figures()).expect("counts") == of_all(&mount)
    });
    for (name, bytes) in [("one", len), ("two", len), ("shifted", len + 3 * BLOCK)] {
        let seen = std::fs::metadata(mount.path(name)).expect("is there");
        assert_eq!(
            (seen.len(), seen.blocks() * 512),
            (bytes, bytes.next_multiple_of(4096)),
            "{name}: what is shared counts in full"
        );
    }
}

#[test]
fn what_compresses_what_is_sparse_and_what_is_only_in_the_bucket() {
    let site = Site::new();
    site.bucket().put("d/unread/x", noise(3, 5 * BLOCK as usize), []);
    site.bucket().put("d/half/x", noise(4, 4 * BLOCK as usize), []);
    site.bucket().put("d/same/x", noise(4, 4 * BLOCK as usize), []);
    site.bucket().put("d/deep/unlisted", noise(5, 100), []);
    let mount = site.mount(&Options::default());
    // A directory for each: a reader of one file has its neighbours fetched as well.
    for (dir, entries) in [("d", 4), ("d/unread", 1), ("d/half", 1), ("d/same", 1)] {
        assert_eq!(std::fs::read_dir(mount.path(dir)).expect("lists").count(), entries);
    }
    let unread = of(&mount, "d");
    assert_eq!((unread.files, unread.logical_bytes, unread.referenced_bytes), (3, 13 * BLOCK, 0));
    assert_eq!(unread.unlisted_directories, Some(1), "what nobody has listed is said to be so");

    let read = |name: &str| assert_eq!(mount.read(name).expect("reads").len() as u64, 4 * BLOCK);
    read("d/half/x");
    mount.settle();
    let some = of(&mount, "d");
    assert_eq!((some.referenced_bytes, some.unique_bytes), (4 * BLOCK, 4 * BLOCK));
    // Another object of the same content: its bytes come from the bucket, since a name of ours is no proof, and take no more space.
    let before = site.count(forebay_loopback_s3::Op::GetObject);
    read("d/same/x");
    mount.settle();
    assert!(site.count(forebay_loopback_s3::Op::GetObject) > before, "nothing is taken for the same by its ETag");
    let both = of(&mount, "d");
    assert_eq!((both.referenced_bytes, both.unique_bytes, both.stored_bytes), (8 * BLOCK, 4 * BLOCK, some.stored_bytes));

    write(&mount, "text", &b"compresses well ".repeat(16 * BLOCK as usize / 16));
    let text = of(&mount, "text");
    // All of its blocks are the same.
    assert_eq!((text.logical_bytes, text.referenced_bytes, text.unique_bytes), (16 * BLOCK, 16 * BLOCK, BLOCK));
    assert!(text.stored_bytes > 0 && text.stored_bytes < BLOCK / 10, "{text:?}");
    let blocks = |name: &str| std::fs::metadata(mount.path(name)).expect("is there").blocks() * 512;
    assert_eq!(blocks("text"), 16 * BLOCK, "what compresses counts as it is written");

    let sparse = std::fs::File::create(mount.path("sparse")).expect("creates");
    sparse.set_len(100 * BLOCK).expect("grows");
    sparse.write_all_at(&noise(6, BLOCK as usize), 50 * BLOCK).expect("writes");
    sparse.sync_all().expect("syncs");
    let sparse = of(&mount, "sparse");
    assert_eq!((sparse.logical_bytes, sparse.referenced_bytes, blocks("sparse")), (100 * BLOCK, BLOCK, BLOCK));
    assert_eq!(blocks("d/unread/x"), 5 * BLOCK, "what is in the bucket counts");

    std::fs::hard_link(mount.path("text"), mount.path("link")).expect("links");
    let names = of(&mount, "");
    assert_eq!((names.files, names.logical_bytes), (5, (13 + 16 + 100) * BLOCK), "a file with two names is one");
}

#[test]
fn a_snapshot_makes_no_duplicates_and_says_what_deleting_it_frees() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    write(&mount, "stays", &noise(1, 10 * BLOCK as usize));
    write(&mount, "changes", &noise(2, 10 * BLOCK as usize));
    write(&mount, "goes", &noise(3, 10 * BLOCK as usize));
    take(&mount, "one");
    let now = of_all(&mount);
    assert_eq!(
        (now.referenced_bytes, now.unique_bytes),
        (30 * BLOCK, 30 * BLOCK),
        "a snapshot of what is there refers to nothing anew"
    );
    assert_eq!(of_snapshot(&mount, "one"), SnapshotFigures { seen: of(&mount, ""), frees_bytes: 0 });

    // One block in the middle: the rest of its row stays shared.
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("changes")).expect("opens");
    file.write_all_at(&noise(4, BLOCK as usize), 4 * BLOCK).expect("writes");
    file.sync_all().expect("syncs");
    drop(file);
    let changed = of_all(&mount);
    assert_eq!(
        (changed.logical_bytes, changed.referenced_bytes),
        (30 * BLOCK, 31 * BLOCK),
        "the old block is in its place as well"
    );
    assert_eq!(changed.unique_bytes, 31 * BLOCK);
    assert_eq!(of_snapshot(&mount, "one").frees_bytes, BLOCK);
    take(&mount, "two");
    std::fs::remove_file(mount.path("goes")).expect("removes");
    std::fs::write(mount.path("copy"), noise(2, 10 * BLOCK as usize)).expect("writes");
    std::fs::File::open(mount.path("copy")).and_then(|file| file.sync_all()).expect("syncs");
    eventually("the removed file is freed", || {
        of_all(&mount).logical_bytes == 30 * BLOCK && mount.fs.vfs().free_orphans().is_ok()
    });
    // What both have goes with neither alone; and the copy has what only the first had.
    assert_eq!(of_snapshot(&mount, "one").frees_bytes, 0);
    assert_eq!(of_snapshot(&mount, "two").frees_bytes, 0);
    std::fs::remove_file(mount.path("copy")).expect("removes");
    eventually("the removed copy is freed", || of_snapshot(&mount, "one").frees_bytes == BLOCK);

    // It is what its deletion lets go of, to the byte.
    let held = || mount.fs.status().cache.held_bytes;
    let goes_with = |name: &str| {
        let frees = of_snapshot(&mount, name).frees_bytes;
        let before = held();
        mount.fs.vfs().delete_snapshot(name.as_bytes()).expect("deletes");
        eventually("what only it had is let go of", || held() == before - frees);
        frees
    };
    assert_eq!(goes_with("one"), BLOCK);
    assert_eq!(goes_with("two"), 10 * BLOCK, "the removed file, which only it still had");
    assert_eq!(held(), 20 * BLOCK);
    assert!(mount.fs.runtime().block_on(mount.fs.vfs().snapshot_figures(b"one")).is_err());
}

#[test]
fn second_copies_are_told_apart() {
    let site = Site::new();
    let mount = site.mount(&Options { devices: 2, dirty_copies: 2, ..Options::default() });
    write(&mount, "file", &noise(1, 8 * BLOCK as usize));
    let figures = of(&mount, "file");
    assert_eq!((figures.unique_bytes, figures.stored_bytes, figures.copy_bytes), (8 * BLOCK, 8 * BLOCK, 8 * BLOCK));
}

#[test]
fn equal_etags_are_not_taken_for_equal_content() {
    use forebay_loopback_s3::{Body, Object, UnixMs};
    let site = Site::new();
    let first = site.bucket().put("d/0", noise(0, 3 * BLOCK as usize), []);
    let first = first.object.as_ref().expect("no delete marker");
    // As an ETag of parts or of an encrypted object may be: it says nothing of the content of another object.
    for at in 1..4_u64 {
        let object = Object { body: Body::Stored(noise(at, 3 * BLOCK as usize).into()), ..Object::clone(first) };
        site.bucket().put_object(&format!("d/{at}"), object, UnixMs::now());
    }
    let mount = site.mount(&Options::default());
    for at in 0..4_u64 {
        assert!(mount.read(&format!("d/{at}")).expect("reads") == noise(at, 3 * BLOCK as usize), "{at}");
    }
    mount.settle();
    assert_eq!(of(&mount, "d").unique_bytes, 12 * BLOCK);
    let row = task(&mount, TaskKind::Preload, &["d"], &[]);
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Succeeded, 4), "{row:?}");
    for at in 0..4_u64 {
        mount.forget_pages(&format!("d/{at}"));
        assert!(mount.read(&format!("d/{at}")).expect("reads") == noise(at, 3 * BLOCK as usize), "{at}, cached");
    }
}
