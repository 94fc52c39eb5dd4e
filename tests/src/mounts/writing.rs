//! Writing to a mount: the exercisers, and what they do not cover.

use crate::exercise::{fsx, pjdfstest, stress, trees};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{Deployment, MetadataTtl};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Tells the mapping process where to work.
const MAPPED: &str = "FOREBAY_MAPPED_FSX";
/// A million operations.
const AT_LENGTH: fsx::Plan =
    fsx::Plan { seed: 9, operations: 1_000_000, max_file_bytes: 4 << 20, mmap: true, compare_every: 5000 };
/// Bytes of a block.
const BLOCK: usize = 128 << 10;

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn one_file_under_random_operations_is_what_a_copy_in_memory_is_also_after_a_remount() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let plan = fsx::Plan { seed: 7, operations: 5000, mmap: false, ..fsx::Plan::default() };
    let outcome = fsx::run(mount.root(), &plan).unwrap_or_else(|failure| panic!("{failure}"));
    fsx::verify(mount.root(), &outcome).unwrap_or_else(|failure| panic!("{failure}"));
    drop(mount);
    let mount = site.mount(&Options::default());
    fsx::verify(mount.root(), &outcome).unwrap_or_else(|failure| panic!("after a remount: {failure}"));
}

/// The same at length, and the one below: `cargo nextest run --release -p forebay-tests --run-ignored only file_at_length`
#[test]
#[ignore = "minutes; CI runs it with optimised code"]
fn one_file_at_length() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let plan = fsx::Plan { mmap: false, ..AT_LENGTH };
    let outcome = fsx::run(mount.root(), &plan).unwrap_or_else(|failure| panic!("{failure}"));
    fsx::verify(mount.root(), &outcome).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{:?}, not offered: {:?}", outcome.done, outcome.not_offered);
    drop(mount);
    let mount = site.mount(&Options::default());
    fsx::verify(mount.root(), &outcome).unwrap_or_else(|failure| panic!("after a remount: {failure}"));
}

#[test]
#[ignore = "minutes; CI runs it with optimised code"]
fn one_mapped_file_at_length() {
    exercise_mapped("mounts::writing::the_mapping_process_at_length");
}

#[test]
#[ignore = "the process of the test above"]
fn the_mapping_process_at_length() {
    exercise_where_told(&AT_LENGTH);
}

/// The exerciser that maps the file runs in a process of its own: a page fault in the process that serves the mount would wait
/// for itself.
#[test]
fn one_mapped_file_under_random_operations_is_what_a_copy_in_memory_is() {
    exercise_mapped("mounts::writing::the_mapping_process");
}

fn exercise_mapped(process: &str) {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let mut exerciser = Command::new(std::env::current_exe().expect("the test program"));
    exerciser.args([process, "--exact", "--include-ignored", "--nocapture"]);
    let output = exerciser.env(MAPPED, mount.root()).output().expect("runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let before = mount.read("fsx").expect("reads");
    drop(mount);
    assert!(site.mount(&Options::default()).read("fsx").expect("reads") == before, "after a remount");
}

#[test]
#[ignore = "the process of the test above"]
fn the_mapping_process() {
    exercise_where_told(&fsx::Plan { seed: 8, operations: 3000, ..fsx::Plan::default() });
}

fn exercise_where_told(plan: &fsx::Plan) {
    let Some(dir) = std::env::var_os(MAPPED) else { return };
    let outcome = fsx::run(Path::new(&dir), plan).unwrap_or_else(|failure| panic!("{failure}"));
    fsx::verify(Path::new(&dir), &outcome).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn eight_threads_in_one_tree_leave_what_their_models_say_also_after_a_remount() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let plan = stress::Plan { seed: 3, operations: 500, compare_every: 250, ..stress::Plan::default() };
    let models = stress::run(mount.root(), &plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(models.offered.xattrs && models.offered.rename_flags && models.offered.links, "{:?}", models.offered);
    drop(mount);
    let mount = site.mount(&Options::default());
    stress::verify(mount.root(), &models).unwrap_or_else(|failure| panic!("after a remount: {failure}"));
}

#[test]
fn databases_repositories_archives_and_builds_work() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    trees::all(mount.root(), &trees::Plan::default()).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn pjdfstest_passes_whole() {
    let program = match pjdfstest::program() {
        Ok(program) => program,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let site = Site::new();
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    let dir = mount.path("pjdfstest");
    std::fs::create_dir(&dir).expect("makes a directory");
    let elsewhere = tempfile::tempdir().expect("a directory elsewhere");
    let settings = pjdfstest::Settings { elsewhere: Some(elsewhere.path().to_owned()), ..pjdfstest::Settings::default() };
    let report = pjdfstest::run(&program, &dir, &settings).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.failed.is_empty(), "{}", report.failures());
    // There is no bound to try that pathconf would tell of.
    let skipped: Vec<_> = report.skipped_here().into_iter().filter(|name| *name != "link::link_count_max").collect();
    assert!(skipped.is_empty(), "{skipped:?}");
    assert!(report.passed.len() > 300, "{} passed", report.passed.len());
}

#[test]
fn part_of_an_object_is_overwritten_and_only_the_blocks_it_touches_are_fetched() {
    let site = Site::new();
    let mut content = noise(64 * BLOCK, 1);
    site.bucket().put("x", content.clone(), []);
    let mount = site.mount(&Options::default());
    let file = OpenOptions::new().write(true).open(mount.path("x")).expect("opens");
    let at = 40 * BLOCK + 1000;
    file.write_all_at(b"changed", at as u64).expect("writes");
    file.sync_all().expect("syncs");
    content[at..at + 7].copy_from_slice(b"changed");
    assert!(mount.fs.status().fetched_bytes <= 2 * BLOCK as u64, "{}", mount.fs.status().fetched_bytes);
    assert!(mount.read("x").expect("reads") == content);
    drop(file);
    drop(mount);
    let mount = site.mount(&Options::default());
    assert!(mount.read("x").expect("reads") == content, "after a remount");
}

#[test]
fn what_was_removed_moved_and_written_here_stays_so_when_the_bucket_is_listed_again() {
    let site = Site::new();
    for key in ["gone", "moved", "written", "dir/a", "dir/b", "old/x"] {
        site.bucket().put(key, key.as_bytes().to_vec(), []);
    }
    let ttl = MetadataTtl::For(Duration::from_millis(50));
    let mount = site.mount(&Options { ttl, ..Options::default() });
    std::fs::remove_file(mount.path("gone")).expect("removes");
    std::fs::rename(mount.path("moved"), mount.path("dir/moved")).expect("moves");
    std::fs::write(mount.path("written"), "here").expect("writes");
    std::fs::write(mount.path("dir/new"), "new").expect("writes");
    std::fs::rename(mount.path("dir"), mount.path("other")).expect("moves a directory that was never listed");
    std::fs::remove_dir_all(mount.path("old")).expect("removes a directory");
    let expect = |mount: &Mounted| {
        let names = |dir: &str| {
            let entries = std::fs::read_dir(mount.path(dir)).expect("lists");
            let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["other", "written"]);
        assert_eq!(names("other"), ["a", "b", "moved", "new"]);
        for (name, content) in [("written", "here"), ("other/a", "dir/a"), ("other/moved", "moved"), ("other/new", "new")] {
            assert_eq!(mount.read(name).expect("reads"), content.as_bytes(), "{name}");
        }
    };
    expect(&mount);
    std::thread::sleep(Duration::from_millis(100));
    expect(&mount);
    drop(mount);
    expect(&site.mount(&Options { ttl, ..Options::default() }));
    // A new version of what was removed is something new.
    site.bucket().put("gone", "again".as_bytes().to_vec(), []);
    let mount = site.mount(&Options { ttl, ..Options::default() });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(mount.read("gone").expect("reads"), b"again");
}

#[test]
fn a_file_that_came_to_the_bucket_meanwhile_is_opened_and_not_made_again() {
    use forebay_daemon::ids::Ino;
    use forebay_daemon::vfs::{Answer, Caller};
    let site = Site::new();
    site.bucket().put("x", "theirs", []);
    let mount = site.mount(&Options::default());
    assert_eq!(mount.read("x").expect("reads"), b"theirs");
    // As the kernel asks that has not heard of the file.
    let create = |flags| match mount.fs.vfs().create(Ino::ROOT, b"x", 0o600, flags, Caller { uid: 0, gid: 0, umask: 0 }) {
        Answer::Ready(answer) => answer,
        Answer::Pending(answer) => mount.fs.runtime().block_on(answer),
    };
    assert_eq!(create(libc::O_EXCL).expect_err("exists").kind, forebay_daemon::error::ErrorKind::Exists);
    assert_eq!(create(0).expect("opens").0.attr.size, 6);
    assert_eq!(create(libc::O_TRUNC).expect("opens and cuts").0.attr.size, 0);
}

#[test]
fn an_unlinked_file_is_readable_and_writable_until_it_is_closed() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let path = mount.path("f");
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).expect("creates");
    file.write_all(b"before").expect("writes");
    std::fs::remove_file(&path).expect("removes");
    file.write_all(b" after").expect("writes");
    file.sync_all().expect("syncs");
    file.seek(SeekFrom::Start(0)).expect("seeks");
    let mut content = String::new();
    file.read_to_string(&mut content).expect("reads");
    assert_eq!((content.as_str(), file.metadata().expect("stats").nlink()), ("before after", 0));
}

#[test]
fn a_sparse_file_of_sixteen_tebibytes_takes_the_space_of_what_is_in_it() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(mount.path("sparse")).expect("creates");
    file.set_len(16 << 40).expect("the largest file");
    assert_eq!(file.set_len((16 << 40) + 1).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    let at = (16 << 40) - 10;
    file.write_all_at(b"end", at).expect("writes");
    file.sync_all().expect("syncs");
    let mut bytes = [1; 20];
    file.read_exact_at(&mut bytes[..10], at).expect("reads");
    assert_eq!(&bytes[..10], b"end\0\0\0\0\0\0\0");
    file.read_exact_at(&mut bytes, 5 << 40).expect("reads a hole");
    assert_eq!(bytes, [0; 20]);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).expect("finds data"), at / BLOCK as u64 * BLOCK as u64);
    file.set_len(3).expect("cuts");
    assert_eq!(file.metadata().expect("stats").len(), 3);
}

#[test]
fn a_file_without_a_name_cannot_be_made() {
    use rustix::fs::{Mode, OFlags, open};
    let site = Site::new();
    let mount = site.mount(&Options::default());
    for _ in 0..2 {
        let opened = open(mount.root(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR).map(drop);
        assert_eq!(opened, Err(rustix::io::Errno::OPNOTSUPP));
    }
    assert_eq!(std::fs::read_dir(mount.root()).expect("lists").count(), 0);
    std::fs::write(mount.path("f"), "as ever").expect("writes");
}

#[test]
fn a_scratch_mount_is_written_and_read() {
    let site = Site::new();
    let mount = site.mount(&Options { deployment: Deployment::Scratch, ..Options::default() });
    let content = noise(3 * BLOCK + 5, 9);
    std::fs::write(mount.path("f"), &content).expect("writes");
    std::fs::File::open(mount.path("f")).expect("opens").sync_all().expect("syncs");
    assert!(mount.read("f").expect("reads") == content);
}

#[test]
fn what_was_written_below_a_prefix_outlives_the_prefix() {
    let site = Site::new();
    site.bucket().put("d/sub/theirs", "x", []);
    let options = Options { ttl: MetadataTtl::For(Duration::from_millis(200)), ..Options::default() };
    let mount = site.mount(&options);
    assert_eq!(mount.read("d/sub/theirs").unwrap(), b"x");
    std::fs::write(mount.path("d/sub/mine"), b"only here").unwrap();
    site.bucket().delete("d/sub/theirs");
    eventually("the deleted object is gone", || std::fs::metadata(mount.path("d/sub/theirs")).is_err());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        std::fs::read_dir(mount.root()).unwrap().count();
        assert_eq!(mount.read("d/sub/mine").unwrap(), b"only here");
    }
    drop(mount);
    let mount = site.mount(&options);
    assert_eq!(mount.read("d/sub/mine").unwrap(), b"only here");
}
