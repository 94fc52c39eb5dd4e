//! Names, attributes and listings.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{MetadataTtl, PosixMetadata};
use forebay_loopback_s3::Op;
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::time::Duration;

fn names(mount: &Mounted, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(mount.path(dir)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn short_ttl() -> Options {
    Options { ttl: MetadataTtl::For(Duration::from_millis(300)), ..Options::default() }
}

#[test]
fn prefixes_are_directories_with_and_without_markers() {
    let site = Site::new();
    for key in ["a/b/c", "a/d", "e", "marked/", "marked/f", "empty/"] {
        site.bucket().put(key, key.to_owned(), []);
    }
    let mount = site.mount(&Options::default());
    assert_eq!(names(&mount, ""), ["a", "e", "empty", "marked"]);
    assert_eq!(names(&mount, "a"), ["b", "d"]);
    assert_eq!(names(&mount, "marked"), ["f"]);
    assert_eq!(names(&mount, "empty"), [""; 0]);
    assert_eq!(mount.read("a/b/c").unwrap(), b"a/b/c");
    assert!(std::fs::metadata(mount.path("empty")).unwrap().is_dir());
}

#[test]
fn a_prefix_of_the_bucket_is_a_root() {
    let site = Site::new();
    for key in ["in/x", "in/sub/y", "in2/z", "out"] {
        site.bucket().put(key, key.to_owned(), []);
    }
    let mount = site.mount(&Options { prefix: "/in".into(), ..Options::default() });
    assert_eq!(names(&mount, ""), ["sub", "x"]);
    assert_eq!(mount.read("sub/y").unwrap(), b"in/sub/y");
}

#[test]
fn a_listing_costs_one_list_per_thousand_keys_and_no_head() {
    let site = Site::new();
    site.bucket().insert_synthetic(3500, |i| format!("d/{i:06}"), 10);
    let mount = site.mount(&Options::default());
    std::fs::metadata(mount.path("d")).unwrap();
    site.server.requests().reset();
    let mut listed = 0;
    for entry in std::fs::read_dir(mount.path("d")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 10);
        listed += 1;
    }
    assert_eq!(listed, 3500);
    assert_eq!((site.count(Op::ListObjects), site.count(Op::HeadObject), site.count(Op::GetObject)), (4, 0, 0));
    assert_eq!(names(&mount, "d").len(), 3500);
    assert_eq!(site.count(Op::ListObjects), 4, "listed again from what is known");
}

#[test]
fn names_whose_key_order_differs_survive_page_ends() {
    let site = Site::new();
    // `p/…` sorts after all of `p-…` and `p.…` as keys, `p` sorts before them as a name.
    site.bucket().insert_synthetic(1500, |i| format!("p-{i:05}"), 1);
    site.bucket().insert_synthetic(1500, |i| format!("p.{i:05}"), 1);
    site.bucket().put("p/x", "x", []);
    let mount = site.mount(&short_ttl());
    for _ in 0..2 {
        let all = names(&mount, "");
        assert_eq!(all.len(), 3001);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3001);
        assert_eq!(mount.read("p/x").unwrap(), b"x");
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn keys_no_tree_can_hold_are_hidden_and_recorded() {
    let site = Site::new();
    let long = "n".repeat(256);
    for key in ["a//b", "./x", "c/../d", "both", "both/in", "fine", long.as_str()] {
        site.bucket().put(key, "!", []);
    }
    let mount = site.mount(&Options::default());
    assert_eq!(names(&mount, ""), ["a", "both", "c", "fine"]);
    assert_eq!(names(&mount, "a"), [""; 0]);
    assert_eq!(names(&mount, "c"), [""; 0]);
    assert_eq!(names(&mount, "both"), ["in"]);
    assert!(std::fs::metadata(mount.path("../d")).is_err() || mount.path("../d").exists(), "never escapes");
    let (hidden, count) = mount.fs.hidden_keys(100).unwrap();
    let keys: BTreeSet<_> = hidden.iter().map(|(key, _)| key.as_str()).collect();
    for prefix in ["a//", "./", "c/../", "both", long.as_str()] {
        assert!(keys.iter().any(|key| key.starts_with(prefix)), "{prefix} in {keys:?}");
    }
    assert_eq!(count as usize, hidden.len());
}

#[test]
fn odd_keys_are_read() {
    let site = Site::new();
    let odd = [
        "sp ace",
        "pl+us",
        "per%cent",
        "per%2Fcent",
        "q?mark",
        "h#ash",
        "ümläut",
        "日本",
        "t~ilde",
        "quo\"te'",
        "new\nline",
        "a&b=c",
        "*",
    ];
    for key in odd {
        site.bucket().put(key, key.to_owned(), []);
        site.bucket().put(&format!("dir {key}/{key}"), key.to_owned(), []);
    }
    let mount = site.mount(&Options::default());
    for key in odd {
        assert_eq!(mount.read(key).unwrap(), key.as_bytes(), "{key}");
        assert_eq!(mount.read(&format!("dir {key}/{key}")).unwrap(), key.as_bytes(), "{key} in a directory");
    }
}

#[test]
fn changes_in_the_bucket_show_after_the_ttl() {
    let site = Site::new();
    site.bucket().put("stays", "1", []);
    site.bucket().put("goes", "1", []);
    site.bucket().put("changes", "old", []);
    let mount = site.mount(&short_ttl());
    assert_eq!(names(&mount, ""), ["changes", "goes", "stays"]);
    assert!(std::fs::metadata(mount.path("comes")).is_err());
    assert_eq!(mount.read("changes").unwrap(), b"old");
    let inode = std::fs::metadata(mount.path("stays")).unwrap().ino();
    site.bucket().put("comes", "new", []);
    site.bucket().put("changes", "newer", []);
    site.bucket().delete("goes");
    eventually("the new object shows", || mount.read("comes").is_ok_and(|bytes| bytes == b"new"));
    eventually("the replaced object shows", || mount.read("changes").is_ok_and(|bytes| bytes == b"newer"));
    eventually("the deleted object is gone", || std::fs::metadata(mount.path("goes")).is_err());
    // A listing may be as old as the TTL, also where single names are known to be newer.
    eventually("the listing says so", || names(&mount, "") == ["changes", "comes", "stays"]);
    assert_eq!(std::fs::metadata(mount.path("stays")).unwrap().ino(), inode, "an unchanged object keeps its inode");
}

#[test]
fn whoever_comes_while_a_directory_is_listed_for_the_first_time_finds_its_names() {
    let site = Site::new();
    let dirs = 150;
    for dir in 0..dirs {
        for name in 0..8 {
            site.bucket().put(&format!("{dir:03}/{name}"), "x", []);
        }
    }
    let mount = site.mount(&Options::default());
    names(&mount, "");
    let start = std::sync::Barrier::new(8);
    let look = |name: u64| {
        let mut missing = Vec::new();
        for dir in 0..dirs {
            start.wait();
            // Spread over the time a listing takes.
            std::thread::sleep(Duration::from_micros(300 * name));
            let path = format!("{dir:03}/{name}");
            if std::fs::metadata(mount.path(&path)).is_err() {
                missing.push(path);
            }
        }
        missing
    };
    let missing: Vec<String> = std::thread::scope(|scope| {
        let look = &look;
        let threads: Vec<_> = (0..8).map(|name| scope.spawn(move || look(name))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn absent_names_are_remembered() {
    let site = Site::new();
    site.bucket().put("d/x", "x", []);
    let mount = site.mount(&Options::default());
    assert!(std::fs::metadata(mount.path("d/none")).is_err());
    site.server.requests().reset();
    for _ in 0..50 {
        assert!(std::fs::metadata(mount.path("d/none")).is_err());
        assert!(std::fs::metadata(mount.path("d/other")).is_err());
    }
    assert_eq!(site.count(Op::ListObjects) + site.count(Op::HeadObject), 0);
}

#[test]
fn one_name_in_a_huge_directory_costs_a_few_requests() {
    let site = Site::new();
    site.bucket().insert_synthetic(30_000, |i| format!("d/{i:06}"), 7);
    let mount = site.mount(&Options::default());
    site.server.requests().reset();
    assert_eq!(std::fs::metadata(mount.path("d/029000")).unwrap().len(), 7);
    assert!(std::fs::metadata(mount.path("d/absent")).is_err());
    let lists = site.count(Op::ListObjects);
    assert!(lists <= 6, "{lists} LISTs for two names");
}

#[test]
fn eager_metadata_makes_stat_show_what_the_object_says() {
    let site = Site::new();
    let posix = [
        ("file-permissions", "0100640"),
        ("file-owner", "1234"),
        ("file-group", "2345"),
        ("file-mtime", "1595002920000000001ns"),
    ];
    site.bucket().put("f", "data", posix);
    site.bucket().put("link", "f", [("file-permissions", "0120777")]);
    site.bucket().put("plain", "data", []);
    let mount = site.mount(&Options { posix: PosixMetadata::Eager, ..Options::default() });
    let stat = std::fs::metadata(mount.path("f")).unwrap();
    assert_eq!((stat.permissions().mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 1234, 2345));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1595002920, 1));
    assert_eq!(std::fs::read_link(mount.path("link")).unwrap().to_str(), Some("f"));
    assert_eq!(mount.read("link").unwrap(), b"data");
    let stat = std::fs::metadata(mount.path("plain")).unwrap();
    assert_eq!((stat.permissions().mode() & 0o7777, stat.uid(), stat.file_type().is_fifo()), (0o755, 0, false));
    let heads = site.count(Op::HeadObject);
    std::fs::metadata(mount.path("f")).unwrap();
    assert_eq!((heads, site.count(Op::HeadObject)), (3, 3), "each object once");
}

#[test]
fn free_metadata_comes_along_with_a_read_and_costs_no_head() {
    let site = Site::new();
    site.bucket().put("f", "data", [("file-permissions", "0100600"), ("file-owner", "77")]);
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::metadata(mount.path("f")).unwrap().uid(), 0);
    mount.read("f").unwrap();
    eventually("the attributes of the GET show", || std::fs::metadata(mount.path("f")).unwrap().uid() == 77);
    assert_eq!(site.count(Op::HeadObject), 0);
}

/// Counts what the kernel would be told to forget.
#[derive(Default)]
struct Told(std::sync::atomic::AtomicUsize);

impl forebay_daemon::vfs::KernelCache for Told {
    fn forget_entry(&self, _: forebay_daemon::ids::Ino, _: &[u8]) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    fn forget_inode(&self, _: forebay_daemon::ids::Ino) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    fn settle(&self, _: std::time::Duration) {}
}

#[test]
fn a_first_listing_tells_the_kernel_of_nothing_that_it_cannot_know() {
    let site = Site::new();
    for n in 0..2_500 {
        site.bucket().put(&format!("d/f{n:04}"), b"x".to_vec(), []);
    }
    let fs = site.start(&Options::default()).expect("starts");
    let told = std::sync::Arc::new(Told::default());
    fs.vfs().set_kernel_cache(told.clone());
    let find = |path: &str| fs.runtime().block_on(fs.vfs().find(path.as_bytes()));
    find("d/f2499").expect("is there");
    let told = || told.0.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(told() <= 2, "{} entries would be looked up again", told());
    fs.shutdown();
}
