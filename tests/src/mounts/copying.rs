//! `copy_file_range` on a mount: blocks are shared, and every byte is what a copy of a model's is.

use super::crash::Serving;
use crate::fixtures::credentials::as_user;
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::units::{ByteCount, MIB};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::copy_file_range;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes of a block.
const BLOCK: u64 = 128 << 10;

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opens")
}

/// Copies all of a range, as callers have to: what is answered may be less.
fn copy(from: &File, mut at: u64, to: &File, mut there: u64, len: u64) -> Result<u64, Errno> {
    let mut left = len;
    while left > 0 {
        match copy_file_range(from, Some(&mut at), to, Some(&mut there), left as usize)? as u64 {
            0 => break,
            copied => left -= copied,
        }
    }
    Ok(len - left)
}

/// A gibibyte of blocks, each of them different, that compress well: what counts is how often they are written.
fn write_big(path: &Path, blocks: u64) {
    let file = open(path);
    let mut block = vec![0; BLOCK as usize];
    for index in 0..blocks {
        block[..8].copy_from_slice(&(index + 1).to_le_bytes());
        file.write_all_at(&block, index * BLOCK).expect("writes");
    }
    file.sync_all().expect("syncs");
}

fn assert_big(path: &Path, blocks: u64) {
    let file = File::open(path).expect("opens");
    assert_eq!(file.metadata().expect("stats").len(), blocks * BLOCK);
    let mut head = [0; 16];
    for index in 0..blocks {
        file.read_exact_at(&mut head, index * BLOCK).expect("reads");
        assert_eq!(head[..8], (index + 1).to_le_bytes(), "block {index}");
        assert_eq!(head[8..], [0; 8], "block {index}");
    }
}

fn written_to_devices(mount: &Mounted) -> u64 {
    mount.fs.status().devices.iter().map(|device| device.written_bytes).sum()
}

#[test]
fn cp_of_a_gibibyte_moves_no_data_and_the_copy_outlives_the_original_and_a_remount() {
    let site = Site::new();
    let options = Options { cache_size: ByteCount(512 * MIB), ..Options::default() };
    let mount = site.mount(&options);
    write_big(&mount.path("original"), 8192);
    let (before, held) = (written_to_devices(&mount), mount.fs.status().cache.held_bytes);
    assert!(before > 8192 * 512, "every block is on a device, if compressed: {before}");
    let done = Command::new("cp").arg(mount.path("original")).arg(mount.path("copy")).status().expect("cp runs");
    assert!(done.success());
    let copy = File::open(mount.path("copy")).expect("opens");
    copy.sync_all().expect("syncs");
    let moved = written_to_devices(&mount) - before;
    assert!(moved < MIB, "{moved} bytes were written to devices");
    assert_eq!(mount.fs.status().cache.held_bytes, held);
    assert_eq!(mount.fs.status().fetched_bytes, 0);
    drop(copy);
    std::fs::remove_file(mount.path("original")).expect("removes");
    assert_big(&mount.path("copy"), 8192);
    drop(mount);
    let mount = site.mount(&options);
    assert_big(&mount.path("copy"), 8192);
    std::fs::remove_file(mount.path("copy")).expect("removes");
    eventually("nothing is held any more", || mount.fs.status().cache.held_bytes == 0);
}

/// Files of the model test, one of them an object of the bucket.
const FILES: [&str; 3] = ["object", "one", "two"];

fn apply(rng: &mut StdRng, files: &[File], models: &mut [Vec<u8>], what: &str) {
    let (a, b) = (rng.random_range(0..files.len()), rng.random_range(0..files.len()));
    let place = |rng: &mut StdRng| match rng.random_range(0..3) {
        0 => rng.random_range(0..12 * BLOCK),
        1 => rng.random_range(0..12) * BLOCK,
        _ => rng.random_range(0..12) * BLOCK + 777,
    };
    match rng.random_range(0..10) {
        0..6 => {
            let (at, there) = (place(rng), place(rng));
            let len = if rng.random() { rng.random_range(1..6) * BLOCK } else { rng.random_range(1..5 * BLOCK) };
            let size = models[a].len() as u64;
            let there_len = len.min(size.saturating_sub(at));
            // Of one file not beyond its end: the copy may lengthen it, and whoever asks again would copy that, too.
            let asked = if a == b { there_len } else { len };
            let outcome = copy(&files[a], at, &files[b], there, asked);
            if a == b && at < there + there_len && there < at + there_len {
                return assert_eq!(outcome, Err(Errno::INVAL), "{what}: {at}+{len} to {there} in one file");
            }
            assert_eq!(outcome, Ok(there_len), "{what}: {at}+{len} of {size} bytes to {there}");
            if there_len > 0 {
                let bytes = models[a][at as usize..(at + there_len) as usize].to_vec();
                put(&mut models[b], there as usize, &bytes);
            }
        }
        6..8 => {
            let mut bytes = vec![0; rng.random_range(1..3 * BLOCK) as usize];
            rng.fill(&mut bytes[..]);
            let at = place(rng);
            files[b].write_all_at(&bytes, at).unwrap_or_else(|error| panic!("{what}: {error}"));
            put(&mut models[b], at as usize, &bytes);
        }
        8 => {
            let size = place(rng);
            files[b].set_len(size).unwrap_or_else(|error| panic!("{what}: {error}"));
            models[b].resize(size as usize, 0);
        }
        _ => files[b].sync_all().unwrap_or_else(|error| panic!("{what}: {error}")),
    }
}

fn put(model: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    model.resize(model.len().max(at + bytes.len()), 0);
    model[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn random_copies_writes_and_cuts_are_what_copies_in_memory_are_also_after_a_remount() {
    for seed in 0..4 {
        let site = Site::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut object = vec![0; 9 * BLOCK as usize + 1234];
        rng.fill(&mut object[..]);
        site.bucket().put("object", object.clone(), []);
        let mount = site.mount(&Options::default());
        let files = FILES.map(|name| open(&mount.path(name)));
        let mut models = vec![object, Vec::new(), Vec::new()];
        for operation in 0..150 {
            apply(&mut rng, &files, &mut models, &format!("seed {seed}, operation {operation}"));
            if operation % 10 == 0 {
                assert_models(&mount, &models, &format!("seed {seed}, operation {operation}"));
            }
        }
        drop(files);
        drop(mount);
        let mount = site.mount(&Options::default());
        assert_models(&mount, &models, &format!("seed {seed}, after a remount"));
        for name in FILES {
            std::fs::remove_file(mount.path(name)).expect("removes");
        }
        eventually("nothing is held any more", || mount.fs.status().cache.held_bytes == 0);
    }
}

fn assert_models(mount: &Mounted, models: &[Vec<u8>], when: &str) {
    for (name, model) in FILES.iter().zip(models) {
        let content = mount.read(name).expect("reads");
        assert_eq!(content.len(), model.len(), "{when}: size of {name}");
        let first = content.iter().zip(model).position(|(a, b)| a != b);
        assert_eq!(first, None, "{when}: the first byte of {name} that differs");
    }
}

#[test]
fn a_copy_of_an_object_is_whole_when_the_object_is_gone() {
    let site = Site::new();
    let content: Vec<u8> = (0..20 * BLOCK as u32 + 5).map(|n| (n * 7 / 5) as u8).collect();
    site.bucket().put("object", content.clone(), []);
    let mount = site.mount(&Options::default());
    let (from, to) = (File::open(mount.path("object")).expect("opens"), open(&mount.path("copy")));
    assert_eq!(copy(&from, 0, &to, 0, 1 << 30), Ok(content.len() as u64));
    to.sync_all().expect("syncs");
    site.bucket().delete("object");
    drop((from, to, mount));
    let mount = site.mount(&Options::default());
    assert!(mount.read("copy").expect("reads") == content);
}

#[test]
fn holes_stay_holes_and_what_the_kernel_had_cached_is_forgotten() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let (from, to) = (open(&mount.path("sparse")), open(&mount.path("full")));
    from.write_all_at(&[1; BLOCK as usize], 0).expect("writes");
    from.set_len(40 * BLOCK).expect("grows");
    to.write_all_at(&vec![9; 40 * BLOCK as usize], 0).expect("writes");
    assert!(mount.read("full").expect("reads").iter().all(|byte| *byte == 9));
    assert_eq!(copy(&from, 0, &to, 0, 40 * BLOCK), Ok(40 * BLOCK));
    let content = mount.read("full").expect("reads");
    assert!(content[..BLOCK as usize].iter().all(|byte| *byte == 1) && content[BLOCK as usize..].iter().all(|byte| *byte == 0));
    assert_eq!(rustix::fs::seek(&to, rustix::fs::SeekFrom::Hole(0)), Ok(BLOCK));
    assert_eq!(rustix::fs::seek(&to, rustix::fs::SeekFrom::Data(BLOCK)), Err(Errno::NXIO));
}

#[test]
fn a_copy_changes_times_and_takes_set_user_id_away() {
    let site = Site::new();
    site.open_to_others();
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    let (from, path) = (open(&mount.path("from")), mount.path("to"));
    from.write_all_at(&vec![3; 3 * BLOCK as usize], 0).expect("writes");
    open(&path).write_all_at(b"old", 0).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6777)).expect("changes the mode");
    std::fs::set_permissions(mount.path("from"), std::fs::Permissions::from_mode(0o666)).expect("changes the mode");
    let before = path.metadata().expect("stats");
    std::thread::sleep(Duration::from_millis(20));
    let (names, copied) = ((mount.path("from"), path.clone()), 3 * BLOCK);
    let outcome = as_user(65534, &[65534], move || copy(&File::open(names.0).expect("opens"), 0, &open(&names.1), 0, copied));
    assert_eq!(outcome, Ok(copied));
    let after = path.metadata().expect("stats");
    assert_eq!((after.mode() & 0o7777, after.len()), (0o777, copied));
    let time = |meta: &std::fs::Metadata| (meta.mtime(), meta.mtime_nsec());
    assert!(time(&after) > time(&before) && (after.ctime(), after.ctime_nsec()) >= time(&after));
}

#[test]
fn cloning_by_ioctl_is_not_supported_and_changes_nothing() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let (from, to) = (open(&mount.path("from")), open(&mount.path("to")));
    from.write_all_at(&[1; BLOCK as usize], 0).expect("writes");
    to.write_all_at(b"kept", 0).expect("writes");
    assert_eq!(rustix::fs::ioctl_ficlone(&to, &from), Err(Errno::OPNOTSUPP));
    assert_eq!(mount.read("to").expect("reads"), b"kept");
}

#[test]
fn kill_9_during_copies_leaves_whole_blocks_of_the_source_and_leaks_nothing() {
    let site = Site::new();
    let place = site.place();
    for round in 0..2_u64 {
        let serving = Serving::start(&place);
        write_big(&site.mountpoint().join("source"), 512);
        let root = site.mountpoint();
        let copier = std::thread::spawn(move || {
            let Ok(source) = File::open(root.join("source")) else { return };
            for number in 0.. {
                let Ok(dest) = File::create(root.join(format!("copy-{}", number % 5))) else { return };
                if dest.write_all_at(&[1; 3], 512 * BLOCK).is_err() || copy(&source, 0, &dest, 0, 512 * BLOCK).is_err() {
                    return;
                }
            }
        });
        std::thread::sleep(Duration::from_millis(300 + 170 * round));
        drop(serving);
        copier.join().expect("ends when the mount does");
        let mount = place.mount(&Options::default());
        assert_big(&mount.path("source"), 512);
        for entry in std::fs::read_dir(mount.root()).expect("lists") {
            let path = entry.expect("an entry").path();
            if path != mount.path("source") {
                assert_copied_blocks(&path);
            }
            std::fs::remove_file(path).expect("removes");
        }
        let until = Instant::now() + Duration::from_secs(20);
        while mount.fs.status().cache.held_bytes > 0 {
            assert!(Instant::now() < until, "{} bytes are still held", mount.fs.status().cache.held_bytes);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Each block is the source's, or was not copied yet: then it is a hole.
fn assert_copied_blocks(path: &Path) {
    let file = File::open(path).expect("opens");
    let blocks = file.metadata().expect("stats").len() / BLOCK;
    let mut head = [0; 8];
    let mut copied = true;
    for index in 0..blocks.min(512) {
        file.read_exact_at(&mut head, index * BLOCK).expect("reads");
        copied &= head != [0; 8];
        let expected = if copied { (index + 1).to_le_bytes() } else { [0; 8] };
        assert_eq!(head, expected, "block {index} of {}", path.display());
    }
}
