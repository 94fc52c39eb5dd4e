//! `forebay fsck`, `scrub` and `gc` against a mount, and against what is not mounted: bytes are flipped in the files of cache directories, and rows in the metadata.

#[path = "support/place.rs"]
mod place;

use forebay_daemon::format::rows::encode_number;
use forebay_daemon::meta::engine::local::LocalEngine;
use forebay_daemon::meta::engine::{Batch, Durability, Engine, KeyRange, Order, Table};
use forebay_loopback_s3::Texture;
use place::{Place, Run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: usize = 128 << 10;
const LEN: usize = 16 * BLOCK;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    Texture::Noise.fill(seed, 0, &mut bytes);
    bytes
}

fn write_synced(place: &Place, name: &str, bytes: &[u8]) {
    let path = place.mnt().join(name);
    std::fs::write(&path, bytes).expect("writes");
    std::fs::File::open(path).and_then(|file| file.sync_all()).expect("syncs");
}

/// Flips a bit of a block's bytes in a device's file, wherever they are in it; whether they were there.
fn flip(cache: &Path, block: &[u8]) -> bool {
    let path = cache.join("segments");
    let device = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    let mut window = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let read = device.read_at(&mut window, offset).expect("reads");
        if read == 0 {
            return false;
        }
        let sectors = window[..read].chunks_exact(4096);
        if let Some(at) = sectors.clone().position(|sector| sector == &block[..4096]) {
            let at = offset + at as u64 * 4096 + 5000;
            let mut byte = [0];
            device.read_exact_at(&mut byte, at).expect("reads");
            device.write_all_at(&[byte[0] ^ 0x10], at).expect("writes");
            device.sync_all().expect("syncs");
            return true;
        }
        offset += read as u64;
    }
}

fn block(bytes: &[u8], number: usize) -> &[u8] {
    &bytes[number * BLOCK..(number + 1) * BLOCK]
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

fn lost(path: &str, number: usize) -> Value {
    json!({"path": path, "start": number * BLOCK, "end": (number + 1) * BLOCK})
}

#[test]
fn a_corrupted_device_is_healed_from_the_bucket_and_what_is_lost_is_named() {
    let place = Place::new();
    let (clean, written) = (noise(1), noise(2));
    place.server.bucket("bucket").put("clean", clean.clone(), BTreeMap::new());
    place.mount();
    let mount = place.path("");
    assert!(std::fs::read(place.mnt().join("clean")).expect("reads") == clean);
    std::fs::create_dir(place.mnt().join("dir")).expect("makes");
    write_synced(&place, "dir/written", &written);
    place.ok(&["snapshot", "create", "s", "--mount", &mount]);
    place.ok(&["umount", &mount]);
    place.mount();

    let fsck = place.forebay(&["fsck", "--mount", &mount, "--data"]);
    assert_eq!((fsck.code, fsck.stderr.as_str()), (Some(0), ""), "{}", fsck.stdout);
    assert!(fsck.stdout.contains("no problems; 16 blocks exist only here"), "{}", fsck.stdout);
    let scrub = json(&place.forebay(&["scrub", "--json", "--mount", &mount]));
    assert!(scrub["frames"].as_u64() >= Some(32) && scrub["lost_blocks"] == 0 && scrub["cached"] == 0, "{scrub}");

    // While it is mounted.
    let cache = place.cache("cache");
    assert!(flip(&cache, block(&clean, 3)) && flip(&cache, block(&written, 2)));
    let run = place.forebay(&["scrub", "--json", "--mount", &mount]);
    let scrub = json(&run);
    assert_eq!((run.code, &scrub["cached"], &scrub["lost_blocks"]), (Some(1), &1.into(), &1.into()), "{scrub}");
    assert_eq!(scrub["lost"], json!([lost(".snapshots/s/dir/written", 2), lost("dir/written", 2)]));
    let run = place.forebay(&["scrub", "--mount", &mount, "--rate", "1G"]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("lost: dir/written, bytes 262144 to 393216: damaged"), "{}", run.stdout);
    assert!(run.stderr.contains("1 blocks are lost; restore the files named above"), "{}", run.stderr);
    assert!(!run.stdout.contains("cached"), "that one was dropped: {}", run.stdout);

    // A check of what is in use goes to the daemon.
    let dir = cache.display().to_string();
    let refused = place.forebay(&["fsck", "--cache", &dir]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("is in use by another forebay"), "{}", refused.stderr);
    place.ok(&["umount", &mount]);

    // And while it is not.
    assert!(flip(&cache, block(&clean, 9)));
    let run = place.forebay(&["fsck", "--cache", &dir, "--data", "--json"]);
    let fsck = json(&run);
    assert_eq!((run.code, &fsck["found"], &fsck["missing_blocks"]), (Some(1), &0.into(), &0.into()), "{fsck}");
    assert_eq!((&fsck["data"]["healed"], &fsck["data"]["lost_blocks"]), (&false.into(), &1.into()), "{fsck}");
    assert_eq!(fsck["data"]["lost"][1], lost("dir/written", 2));

    place.mount();
    assert!(std::fs::read(place.mnt().join("clean")).expect("reads") == clean, "healed from the bucket");
    let file = std::fs::File::open(place.mnt().join("dir/written")).expect("opens");
    let mut bytes = vec![0; BLOCK];
    file.read_exact_at(&mut bytes, 0).expect("this part is good");
    assert!(bytes == block(&written, 0));
    assert_eq!(file.read_exact_at(&mut bytes, 2 * BLOCK as u64).expect_err("this one is not").raw_os_error(), Some(libc::EIO));
    drop(file);
    // What a reader met is as lost as what a scrub met.
    let run = place.forebay(&["scrub", "--json", "--mount", &mount]);
    assert_eq!((run.code, &json(&run)["lost"][1]), (Some(1), &lost("dir/written", 2)));
    // Without the file there is nothing to be lost.
    std::fs::remove_file(place.mnt().join("dir/written")).expect("removes");
    place.ok(&["snapshot", "delete", "s", "--mount", &mount]);
    place.ok(&["gc", "--mount", &mount]);
    let scrub = json(&place.forebay(&["scrub", "--json", "--mount", &mount]));
    assert_eq!(scrub["lost_blocks"], 0, "{scrub}");
    place.ok(&["scrub", "--mount", &mount]);
    assert!(place.ok(&["fsck", "--mount", &mount]).contains("no problems; 0 blocks exist only here"));
}

#[test]
fn with_two_copies_a_corrupted_device_costs_nothing_and_two_corrupted_ones_what_is_named() {
    let place = Place::new();
    let (caches, options) = (["one", "two"], ["--dirty-copies", "2"]);
    place.mount_with(&caches, &options);
    let (mount, written) = (place.path(""), noise(3));
    write_synced(&place, "written", &written);
    let dirs = caches.map(|name| place.cache(name));
    for dir in &dirs {
        for number in [4, 7] {
            assert!(flip(dir, block(&written, number)), "both devices have it");
        }
        let scrub = json(&place.forebay(&["scrub", "--json", "--mount", &mount]));
        if dir == &dirs[0] {
            let figures = (&scrub["copies"], &scrub["lost_blocks"], &scrub["lacking_copies"]);
            assert_eq!(figures, (&2.into(), &0.into(), &0.into()), "{scrub}");
        }
    }
    // The copies were made anew in between, so the second device could be corrupted as well.
    assert!(place.ok(&["fsck", "--data", "--mount", &mount]).contains("no problems"));
    place.ok(&["umount", &mount]);
    place.mount_with(&caches, &options);
    assert!(std::fs::read(place.mnt().join("written")).expect("reads") == written);

    // Not mounted, one copy is told of; both, and the block is lost.
    place.ok(&["umount", &mount]);
    let [one, two] = dirs.each_ref().map(|dir| dir.display().to_string());
    let check = ["fsck", "--cache", &one, "--cache", &two, "--dirty-copies", "2", "--data", "--json"];
    assert!(flip(&dirs[0], block(&written, 9)));
    let run = place.forebay(&check);
    assert_eq!((run.code, &json(&run)["data"]["copies"], &json(&run)["data"]["lost_blocks"]), (Some(1), &1.into(), &0.into()));
    assert!(flip(&dirs[1], block(&written, 9)));
    let run = place.forebay(&check);
    assert_eq!((run.code, &json(&run)["data"]["lost"]), (Some(1), &json!([lost("written", 9)])));
    place.mount_with(&caches, &options);
    let run = place.forebay(&["scrub", "--json", "--mount", &mount]);
    assert_eq!((run.code, &json(&run)["lost"]), (Some(1), &json!([lost("written", 9)])));
}

/// Changes rows of the metadata of what is not mounted.
fn change_metadata(cache: &Path, change: impl FnOnce(&LocalEngine, &mut Batch)) {
    let engine = LocalEngine::open(&cache.join("metadata"), 32 << 20).expect("opens");
    let mut batch = Batch::default();
    change(&engine, &mut batch);
    engine.commit(batch, Durability::Durable).expect("commits");
}

#[test]
fn damaged_metadata_is_told_of_and_repaired_where_it_is_not_mounted() {
    let place = Place::mounted();
    let (mount, written) = (place.path(""), noise(5));
    write_synced(&place, "written", &written);
    let cache = place.cache("cache");
    let dir = cache.display().to_string();
    place.ok(&["umount", &mount]);
    assert!(place.ok(&["fsck", "--cache", &dir]).contains("no problems; 16 blocks exist only here"));
    change_metadata(&cache, |engine, batch| {
        let mut first = None;
        let everything = KeyRange { start: Vec::new(), end: None };
        let scanned = engine.view().scan(Table::Refs, &everything, Order::Ascending, &mut |key, _| {
            first.get_or_insert(key.to_vec());
            ControlFlow::Continue(())
        });
        scanned.expect("reads");
        batch.remove(Table::Refs, first.expect("a block that exists only here"));
        batch.put(Table::Refs, [7; 8], encode_number(5));
    });
    let run = place.forebay(&["fsck", "--cache", &dir]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("is said to be referred to 0 times and is 1 times"), "{}", run.stdout);
    assert!(run.stdout.contains("is said to be referred to 5 times and is 0 times"), "{}", run.stdout);
    assert!(run.stderr.contains("'forebay fsck --repair' repairs what can be repaired"), "{}", run.stderr);
    let run = place.forebay(&["fsck", "--cache", &dir, "--repair"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("2 problems, all repaired; 16 blocks exist only here"), "{}", run.stdout);
    assert!(place.ok(&["fsck", "--cache", &dir]).contains("no problems; 16 blocks exist only here"));
    place.mount();
    assert!(std::fs::read(place.mnt().join("written")).expect("reads") == written);
    assert!(place.ok(&["fsck", "--mount", &mount]).contains("no problems"));

    // What cannot be checked is one line that says so.
    for (args, code, says) in [
        (&["fsck", "--cache", "/nowhere"][..], 1, "is not a cache directory"),
        (&["fsck", "--mount", "/"], 1, "is not in a forebay mount"),
        (&["scrub", "--mount", "/", "--rate", "0"], 2, "--rate: nothing is read at 0 bytes a second"),
        (&["scrub", "--mount", "/", "--rate", "quick"], 2, "--rate: "),
    ] {
        let run = place.forebay(args);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(code), 1), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn space_of_removed_files_goes_back_to_the_disk() {
    let place = Place::mounted();
    let device = place.cache("cache").join("segments");
    let allocated = || std::fs::metadata(&device).expect("there").blocks() * 512;
    for seed in 0..24 {
        write_synced(&place, &format!("f{seed}"), &noise(100 + seed));
    }
    let full = allocated();
    (0..24).for_each(|seed| std::fs::remove_file(place.mnt().join(format!("f{seed}"))).expect("removes"));
    let run = json(&place.forebay(&["gc", "--json", "--mount", &place.path("")]));
    let given = run["given_back_bytes"].as_u64().expect("a number");
    assert!(given >= 24 << 20 && allocated() + (24 << 20) <= full, "{given} of {full}, {} are left: {run}", allocated());
    // The background does it as well, a little at a time.
    for seed in 0..24 {
        write_synced(&place, &format!("f{seed}"), &noise(200 + seed));
    }
    let full = allocated();
    (0..24).for_each(|seed| std::fs::remove_file(place.mnt().join(format!("f{seed}"))).expect("removes"));
    let give_up = Instant::now() + Duration::from_secs(40);
    while allocated() + (8 << 20) > full {
        assert!(Instant::now() < give_up, "{} of {full} bytes are still allocated", allocated());
        std::thread::sleep(Duration::from_millis(100));
    }
}
