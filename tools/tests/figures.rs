//! `forebay status` of paths, `forebay snapshot show`, and snapshots that are materialized, against a mount.

#[path = "support/place.rs"]
mod place;

use place::Place;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Content that does not compress, in blocks of 128 KiB.
fn noise(seed: u64, blocks: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..blocks << 17).map(next).collect()
}

fn synced(place: &Place, name: &str, bytes: &[u8]) {
    std::fs::write(place.mnt().join(name), bytes).expect("writes");
    std::fs::File::open(place.mnt().join(name)).and_then(|file| file.sync_all()).expect("syncs");
}

#[test]
fn figures_of_a_mount_a_path_and_a_snapshot() {
    let place = Place::mounted();
    let mount = place.path("");
    std::fs::create_dir(place.mnt().join("d")).expect("makes");
    synced(&place, "d/one", &noise(1, 16));
    synced(&place, "d/two", &noise(1, 16));
    synced(&place, "zeroes-of-a-kind", &b"abcdefgh".repeat(4 << 14));

    let text = place.ok(&["status", &place.path("d")]);
    let expected = "  2 files\n  logical     4 MiB\n  referenced  4 MiB are here\n  unique      2 MiB, dedup 2.00x\n  stored      2 MiB, compression 1.00x\n";
    assert_eq!(text, format!("{}{expected}", place.path("d")));
    let of = |path: &str| json(&place.ok(&["status", "--json", &place.path(path)]));
    let one = of("d/one");
    assert_eq!((&one["files"], &one["logical_bytes"], &one["unique_bytes"]), (&1.into(), &(2 << 20).into(), &(2 << 20).into()));
    assert_eq!((&one["dedup_ratio"], &one["path"]), (&1.0.into(), &place.path("d/one").into()));
    let packed = of("zeroes-of-a-kind");
    assert!(packed["compression_ratio"].as_f64().is_some_and(|ratio| ratio > 20.0), "{packed}");
    let data = &of("")[0]["data"];
    assert_eq!((&data["files"], &data["logical_bytes"]), (&3.into(), &((4 << 20) + (512 << 10)).into()));
    assert!(
        place.ok(&["status", &mount]).contains("\n  data        4.5 MiB logical, 4.5 MiB referenced, "),
        "{}",
        place.ok(&["status"])
    );

    place.ok(&["snapshot", "create", "s", "--mount", &mount]);
    std::fs::remove_file(place.mnt().join("d/two")).expect("removes");
    synced(&place, "d/one", &noise(2, 16));
    let shown = place.ok(&["snapshot", "show", "s", "--mount", &mount]);
    assert!(shown.starts_with("s  of /, taken 20") && shown.contains("\n  logical     4.5 MiB\n"), "{shown}");
    // The removed file is freed within a second or two; both are what only the snapshot has then.
    let began = std::time::Instant::now();
    let frees = || json(&place.ok(&["snapshot", "show", "s", "--json", "--mount", &mount]))["data"]["frees_bytes"].clone();
    while frees() != 2 << 20 {
        assert!(began.elapsed().as_secs() < 20, "{}", frees());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(place.ok(&["snapshot", "show", "s", "--mount", &mount]).contains("\n  frees       2 MiB when it is deleted\n"));
    assert_eq!(of(".snapshots/s/d")["logical_bytes"], Value::from(4 << 20), "a snapshot is a path as well");

    for (args, says) in [
        (vec!["status", "/"], "is not in a forebay mount"),
        (vec!["status", "--hidden-keys", &place.path("d")], "--hidden-keys is of a whole mount"),
        (vec!["snapshot", "show", "none", "--mount", &mount], "there is no snapshot 'none'"),
    ] {
        let run = place.forebay(&args);
        assert!(run.code != Some(0) && run.stderr.contains(says) && run.stderr.lines().count() == 1, "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_materialized_snapshot_has_all_and_outlives_the_bucket_and_a_kill() {
    let place = Place::mounted();
    let mount = place.path("");
    let bucket = place.server.bucket("bucket");
    bucket.put("d/deep/a", noise(1, 3), []);
    bucket.put("d/b", noise(2, 1), []);
    bucket.put("elsewhere/c", noise(3, 1), []);
    let snapshot = |args: &[&str]| place.forebay(&[&["snapshot"], args, &["--mount", &mount]].concat());
    // Nobody has looked into any directory yet.
    let run = snapshot(&["create", "all of it", "--materialize"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.starts_with("all of it  of /, taken 20") && run.stdout.contains(", materialized"), "{}", run.stdout);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(snapshot(&["list"]).stdout.contains("(materialized)"));
    let part = json(&place.ok(&["snapshot", "create", "part", "--path", &place.path("d"), "--materialize", "--json"]));
    assert_eq!((&part["path"], &part["materialized"]), (&"/d".into(), &true.into()));
    let run = snapshot(&["create", "part", "--materialize"]);
    assert!(
        run.code == Some(1) && run.stderr.contains("'forebay snapshot materialize part' brings what it lacks"),
        "{}",
        run.stderr
    );

    for key in bucket.keys() {
        bucket.delete(&key);
    }
    let seen = |path: &str| std::fs::read(place.mnt().join(".snapshots").join(path));
    let is_whole = || {
        assert!(seen("all of it/d/deep/a").expect("reads") == noise(1, 3));
        assert!(seen("all of it/elsewhere/c").expect("reads") == noise(3, 1));
        assert!(seen("part/b").expect("reads") == noise(2, 1));
    };
    is_whole();
    let pid = json(&place.ok(&["status", "--json", &mount]))[0]["pid"].as_i64().expect("a number");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process")).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kills");
    place.ok(&["umount", &mount]);
    place.mount();
    is_whole();
    assert_eq!(json(&snapshot(&["show", "all of it", "--json"]).stdout)["materialized"], true);
}

#[test]
fn what_cannot_be_loaded_any_more_is_named() {
    let place = Place::mounted();
    let mount = place.path("");
    let bucket = place.server.bucket("bucket");
    bucket.put("stays", noise(1, 1), []);
    bucket.put("goes", noise(2, 1), []);
    let snapshot = |args: &[&str]| place.forebay(&[&["snapshot"], args, &["--mount", &mount]].concat());
    assert_eq!(std::fs::read_dir(place.mnt()).expect("lists").count(), 2);
    assert_eq!(snapshot(&["create", "s"]).code, Some(0));
    bucket.put("goes", noise(3, 1), []);
    let run = snapshot(&["materialize", "s"]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
    for says in [
        "snapshot 's' is there, and not materialized: 1 of 2 files failed",
        ".snapshots/s/goes",
        "'forebay snapshot materialize s' tries again",
    ] {
        assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
    }
    assert!(!snapshot(&["show", "s"]).stdout.contains("materialized"));
    let run = snapshot(&["materialize", "s", "--json"]);
    assert_eq!((run.code, json(&run.stdout)["failed"].clone()), (Some(1), 1.into()), "{}", run.stderr);
    // A new one has what is there now; what it said of the bucket before is looked at again.
    let run = snapshot(&["create", "t", "--materialize"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(std::fs::read(place.mnt().join(".snapshots/t/goes")).expect("reads") == noise(3, 1));
    bucket.delete("stays");
    assert!(std::fs::read(place.mnt().join(".snapshots/s/stays")).expect("what could be loaded is held") == noise(1, 1));
    let run = snapshot(&["materialize", "none"]);
    assert!(run.code == Some(1) && run.stderr.contains("there is no snapshot 'none'"), "{}", run.stderr);
}
