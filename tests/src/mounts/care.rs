//! Checks and scrubs of what is in use.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::cache::care::{FsckOptions, FsckReport, ScrubReport, Watch};
use forebay_daemon::format::rows::encode_number;
use forebay_daemon::meta::engine::memory::MemoryEngine;
use forebay_daemon::meta::engine::{Batch, Durability, Engine, KeyRange, Order, Table};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn fsck(mount: &Mounted, repair: bool) -> FsckReport {
    let options = FsckOptions { repair, data: None, is_mounted: true, copies: 1 };
    mount.fs.vfs().fsck(&options, &Watch::new(None)).expect("checks")
}

fn scrub(mount: &Mounted) -> ScrubReport {
    mount.fs.vfs().scrub(true, u64::MAX, &Watch::new(None)).expect("scrubs")
}

fn noise(random: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes[..]);
    bytes
}

/// Writes, syncs, renames, cuts and removes files of its own until told to stop.
fn churn(mount: &Mounted, thread: u64, is_over: &AtomicBool) -> u64 {
    let mut random = StdRng::seed_from_u64(thread);
    let dir = mount.path(&format!("t{thread}"));
    std::fs::create_dir(&dir).expect("makes");
    let mut rounds = 0;
    while !is_over.load(Ordering::Acquire) {
        let (name, other) =
            (dir.join(format!("f{}", random.random_range(0..8))), dir.join(format!("f{}", random.random_range(0..8))));
        match random.random_range(0..6) {
            0 => drop(std::fs::remove_file(&name)),
            1 => drop(std::fs::rename(&name, &other)),
            2 => drop(
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&name)
                    .and_then(|file| file.set_len(random.random_range(0..900_000))),
            ),
            3 => drop(std::fs::hard_link(&name, &other)),
            4 => drop(std::fs::File::open(&name).and_then(|file| file.sync_all())),
            _ => {
                let len = random.random_range(0..600_000);
                std::fs::write(&name, noise(&mut random, len)).expect("writes");
            }
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn nothing_is_told_of_that_is_merely_on_its_way() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn({
                    let (mount, is_over) = (&mount, &is_over);
                    move || churn(mount, thread, is_over)
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(6);
        let (mut checks, mut held) = (0, 0);
        while Instant::now() < until {
            let report = fsck(&mount, false);
            let scrubbed = scrub(&mount);
            if checks % 4 == 0 {
                let name = format!("s{checks}");
                mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), b"")).expect("takes");
            } else if checks % 4 == 2 {
                mount.fs.vfs().delete_snapshot(format!("s{}", checks - 2).as_bytes()).expect("deletes");
            }
            let sound = !report.has_problems() && !scrubbed.has_problems();
            if !sound {
                is_over.store(true, Ordering::Release);
            }
            assert!(sound, "{report:?} {scrubbed:?}");
            (checks, held) = (checks + 1, held + report.held_blocks);
        }
        is_over.store(true, Ordering::Release);
        let rounds: u64 = writers.into_iter().map(|writer| writer.join().expect("writes")).sum();
        assert!(checks >= 4 && held > 0 && rounds > 50, "{checks} checks of {held} blocks, {rounds} rounds");
    });
}

#[test]
fn counts_of_references_are_repaired_while_mounted() {
    let site = Site::new();
    let engine = MemoryEngine::default();
    let mount = site.mount(&Options { replace_metadata: Some(Arc::new(engine.clone())), ..Options::default() });
    let content = noise(&mut StdRng::seed_from_u64(7), 1 << 20);
    std::fs::write(mount.path("f"), &content).expect("writes");
    std::fs::File::open(mount.path("f")).and_then(|file| file.sync_all()).expect("syncs");
    assert!(!fsck(&mount, false).has_problems());
    let mut counts = Vec::new();
    let everything = KeyRange { start: Vec::new(), end: None };
    let scanned = engine.view().scan(Table::Refs, &everything, Order::Ascending, &mut |key, _| {
        counts.push(key.to_vec());
        ControlFlow::Continue(())
    });
    scanned.expect("reads");
    assert_eq!(counts.len(), 8);
    let mut batch = Batch::default();
    batch.remove(Table::Refs, counts[0].clone());
    batch.put(Table::Refs, counts[1].clone(), encode_number(3));
    batch.put(Table::Refs, [9; 8], encode_number(1));
    engine.commit(batch, Durability::Durable).expect("commits");
    let report = fsck(&mount, false);
    // One is held though nothing is said to refer to it, one is said to be referred to and is nowhere.
    assert_eq!((report.found, report.repaired, report.missing_blocks), (4, 0, 1), "{report:?}");
    let report = fsck(&mount, true);
    assert!(!report.has_problems() && report.repaired == 3, "{report:?}");
    let report = fsck(&mount, false);
    assert!(!report.has_problems() && report.found == 0 && report.held_blocks == 8, "{report:?}");
    mount.forget_pages("f");
    assert!(mount.read("f").expect("reads") == content);
    // What was repaired is let go of with the file.
    std::fs::remove_file(mount.path("f")).expect("removes");
    eventually("nothing is held", || mount.fs.status().cache.held_bytes == 0);
    assert!(!fsck(&mount, false).has_problems());
}

#[test]
fn what_nobody_asks_about_ends_and_two_at_once_are_refused() {
    use forebay_daemon::control::care::{CareOrder, CareReport};
    let site = Site::new();
    let mount = site.mount(&Options::default());
    std::fs::write(mount.path("f"), noise(&mut StdRng::seed_from_u64(8), 2 << 20)).expect("writes");
    std::fs::File::open(mount.path("f")).and_then(|file| file.sync_all()).expect("syncs");
    // A minute's work.
    let begun = mount.fs.start_care(CareOrder::Scrub { rate: 1 << 15 }).expect("begins");
    let refused = mount.fs.start_care(CareOrder::Gc {}).expect_err("one at a time");
    assert!(refused.message.contains("under way"), "{refused}");
    std::thread::sleep(forebay_daemon::control::care::PATIENCE + Duration::from_secs(1));
    let ended = mount.fs.care(begun.id, Duration::from_secs(2)).expect("is known");
    assert!(matches!(&ended.report, Some(CareReport::Scrub(report)) if !report.is_whole && report.frames > 0), "{ended:?}");
    let begun = mount.fs.start_care(CareOrder::Gc {}).expect("begins");
    let ended = mount.fs.care(begun.id, Duration::from_secs(10)).expect("is known");
    assert!(matches!(&ended.report, Some(CareReport::Gc(report)) if report.is_whole), "{ended:?}");
    mount.fs.care(begun.id + 1, Duration::ZERO).expect_err("there is no such");
}
