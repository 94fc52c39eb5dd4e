//! What `stat` says of blocks: what is in a file counts, holes do not, and those who go by it copy whole files.

use crate::fixtures::mounted::{Options, Site};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

const BLOCK: u64 = 128 << 10;

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opens")
}

fn blocks(path: &Path) -> u64 {
    path.metadata().expect("stats").blocks()
}

fn punch(file: &File, at: u64, len: u64) {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len).expect("punches");
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> String {
    let done = Command::new(program).args(arguments).current_dir(dir).output().expect("runs");
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// A handle that cannot have mapped the file.
fn write_only(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("opens")
}

/// What a file should show: every block that is more than zeros, as far as the file's end.
fn expected(content: &[u8]) -> u64 {
    let sectors = |block: &[u8]| if block.iter().all(|byte| *byte == 0) { 0 } else { block.len().div_ceil(4096) as u64 * 8 };
    content.chunks(BLOCK as usize).map(sectors).sum()
}

#[test]
fn a_sparse_file_shows_what_is_in_it_at_once_and_after_a_remount() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let (path, middle) = (mount.path("f"), 1 << 39);
    let file = write_only(&path);
    file.set_len(1 << 40).expect("lengthens");
    assert_eq!(blocks(&path), 0, "nothing is in it");
    file.write_all_at(&[7; 4096], middle).expect("writes");
    let shown = blocks(&path);
    assert_eq!(shown, BLOCK / 512, "a block of the file");
    file.sync_all().expect("syncs");
    assert_eq!(blocks(&path), shown);
    assert_eq!(run("du", &["--block-size=1", "f"], mount.root()).split_whitespace().next(), Some("131072"));
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(middle));
    assert_eq!(seek(&file, SeekFrom::Hole(middle)), Ok(middle + BLOCK));
    drop((file, mount));
    let mount = site.mount(&Options::default());
    let path = mount.path("f");
    assert_eq!(blocks(&path), shown);
    let file = write_only(&path);
    punch(&file, middle, 4096);
    assert_eq!(blocks(&path), 0, "the hole shows at once");
    assert!(seek(&file, SeekFrom::Data(0)).is_err(), "there is no data");
    file.sync_all().expect("syncs");
    assert_eq!(blocks(&path), 0);
    drop((file, mount));
    assert_eq!(blocks(&site.mount(&Options::default()).path("f")), 0);
}

#[test]
fn a_small_file_shows_its_sectors_and_directories_and_links_show_nothing() {
    let site = Site::new();
    site.bucket().put("theirs", "x".repeat(5000), []);
    let mount = site.mount(&Options::default());
    std::fs::write(mount.path("f"), "x").expect("writes");
    assert_eq!(blocks(&mount.path("f")), 8);
    std::fs::write(mount.path("empty"), "").expect("writes");
    std::fs::create_dir(mount.path("d")).expect("makes a directory");
    std::os::unix::fs::symlink("somewhere", mount.path("l")).expect("links");
    assert_eq!((blocks(&mount.path("empty")), blocks(&mount.path("d"))), (0, 0));
    assert_eq!(mount.path("l").symlink_metadata().expect("stats").blocks(), 0);
    assert_eq!(blocks(&mount.path("theirs")), 16, "what the bucket has is data");
}

#[test]
fn an_object_keeps_what_is_not_overwritten_and_a_hole_in_it_is_one() {
    let site = Site::new();
    let content: Vec<u8> = (0..4 * BLOCK + 5000).map(|at| (at / 1000 % 250 + 1) as u8).collect();
    site.bucket().put("o", content.clone(), []);
    let mount = site.mount(&Options::default());
    let path = mount.path("o");
    let whole = 4 * BLOCK / 512 + 16;
    assert_eq!(blocks(&path), whole);
    let file = open(&path);
    file.write_all_at(&[9; 10], BLOCK).expect("writes");
    assert_eq!(blocks(&path), whole, "in memory");
    file.sync_all().expect("syncs");
    assert_eq!(blocks(&path), whole, "recorded");
    punch(&file, 2 * BLOCK, BLOCK);
    assert_eq!(blocks(&path), whole - BLOCK / 512);
    file.set_len(3 * BLOCK + 1).expect("cuts");
    assert_eq!(blocks(&path), 2 * BLOCK / 512 + 8);
    file.sync_all().expect("syncs");
    assert_eq!(blocks(&path), 2 * BLOCK / 512 + 8);
    drop((file, mount));
    assert_eq!(blocks(&site.mount(&Options::default()).path("o")), 2 * BLOCK / 512 + 8);
}

#[test]
fn sparse_copies_and_archives_are_the_file_and_stay_sparse() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let file = open(&mount.path("f"));
    file.set_len(64 << 20).expect("lengthens");
    for at in [0, (20 << 20) + 100, (64 << 20) - 5] {
        file.write_all_at(b"hello", at).expect("writes");
    }
    // Not synced on purpose: what is only in memory counts.
    run("cp", &["--sparse=auto", "f", "auto"], mount.root());
    run("cp", &["--sparse=always", "f", "always"], mount.root());
    run("tar", &["-cSf", "f.tar", "f"], mount.root());
    std::fs::create_dir(mount.path("out")).expect("makes a directory");
    run("tar", &["-xSf", "f.tar", "-C", "out"], mount.root());
    assert!(mount.path("f.tar").metadata().expect("stats").len() < 2 << 20, "holes are no part of the archive");
    for copy in ["auto", "always", "out/f"] {
        run("cmp", &["f", copy], mount.root());
        let shown = blocks(&mount.path(copy));
        assert!((1..=3 * BLOCK / 512).contains(&shown), "{copy}: {shown}");
    }
}

#[test]
fn under_random_changes_what_shows_is_what_is_in_the_file() {
    const SIZE: u64 = 10 * BLOCK;
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let mut random = StdRng::seed_from_u64(5);
    let (path, mut model) = (mount.path("f"), Vec::<u8>::new());
    let file = open(&path);
    for step in 0..600 {
        let at = random.random_range(0..SIZE);
        let len = [1, 4096, BLOCK, 3 * BLOCK][random.random_range(0..4)].min(SIZE - at);
        let (start, end) = (at as usize, (at + len) as usize);
        match random.random_range(0..20) {
            0..8 => {
                // Zeros are no data, whoever wrote them.
                let bytes = vec![[0, 1, 2][random.random_range(0..3)]; len as usize];
                file.write_all_at(&bytes, at).expect("writes");
                model.resize(model.len().max(end), 0);
                model[start..end].copy_from_slice(&bytes);
            }
            8..13 => {
                punch(&file, at, len);
                let end = end.min(model.len());
                model[start.min(end)..end].fill(0);
            }
            13..16 => {
                file.set_len(at).expect("resizes");
                model.resize(start, 0);
            }
            16..18 => file.sync_all().expect("syncs"),
            18 => {
                let aligned = at / BLOCK * BLOCK;
                let (mut from, mut to) = (0, aligned);
                let count = (2 * BLOCK).min(aligned).min(model.len() as u64) as usize;
                if count > 0 {
                    let copied =
                        rustix::fs::copy_file_range(&file, Some(&mut from), &file, Some(&mut to), count).expect("copies");
                    let target = aligned as usize;
                    model.resize(model.len().max(target + copied), 0);
                    model.copy_within(..copied, target);
                }
            }
            _ => {
                let head = model.len().min(4096);
                assert_eq!(read(&file, head), model[..head], "step {step}");
            }
        }
        let meta = path.metadata().expect("stats");
        // A file that is open for reading and writing may be mapped: it is never told to be empty.
        let least = if model.is_empty() { 0 } else { 8 };
        assert_eq!((meta.len(), meta.blocks()), (model.len() as u64, expected(&model).max(least)), "step {step}");
    }
    drop((file, mount));
    let mount = site.mount(&Options::default());
    assert_eq!(blocks(&mount.path("f")), expected(&model));
    assert!(mount.read("f").expect("reads") == model);
}

fn read(file: &File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    bytes
}

/// Where the mapping process finds the mount.
const MAPPED: &str = "FOREBAY_TEST_ALLOCATED";

#[test]
fn what_was_written_through_a_mapping_is_copied_by_those_who_go_by_holes() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let mut mapper = Command::new(std::env::current_exe().expect("the test program"));
    mapper.args(["mounts::allocated::the_mapping_process", "--exact", "--include-ignored", "--nocapture"]);
    let output = mapper.env(MAPPED, mount.root()).output().expect("runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut expected = vec![0; 8 << 20];
    expected[5 << 20] = 7;
    for copy in ["f", "copy", "out/f"] {
        assert!(mount.read(copy).expect("reads") == expected, "{copy}");
    }
    assert_eq!(blocks(&mount.path("f")), BLOCK / 512, "written back with the mapping");
}

#[test]
#[ignore = "the process of the test above: a page fault in the process that serves the mount would wait for itself"]
fn the_mapping_process() {
    let Some(dir) = std::env::var_os(MAPPED) else { return };
    let dir = Path::new(&dir);
    let file = open(&dir.join("f"));
    file.set_len(8 << 20).expect("lengthens");
    // SAFETY: a shared mapping of the whole file, which nobody cuts.
    let map = unsafe {
        let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        rustix::mm::mmap(std::ptr::null_mut(), 8 << 20, access, rustix::mm::MapFlags::SHARED, &file, 0).expect("maps")
    };
    drop(file);
    let reader = File::open(dir.join("f")).expect("opens");
    assert_eq!((blocks(&dir.join("f")), seek(&reader, SeekFrom::Data(0))), (8, Ok(0)), "anything may be in it");
    // SAFETY: within the mapping.
    unsafe { map.cast::<u8>().add(5 << 20).write(7) };
    run("cp", &["--sparse=auto", "f", "copy"], dir);
    run("tar", &["-cSf", "f.tar", "f"], dir);
    std::fs::create_dir(dir.join("out")).expect("makes a directory");
    run("tar", &["-xSf", "f.tar", "-C", "out"], dir);
}
