//! Mounts whose process is killed while it is written to. The process is this test program again.

use crate::exercise::crash::{self, Kept, Rules};
use crate::fixtures::mounted::{Options, Place, Site};
use forebay_daemon::config::{AutoExport, AutoImport, OnConflict};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells the serving process where its server and its directories are, a line each.
const PLACE: &str = "FOREBAY_CRASH_PLACE";
/// Tells it what it does by itself: export, import, or nothing.
const BY_ITSELF: &str = "FOREBAY_CRASH_BY_ITSELF";
const KEEPS_BOTH: &str = "keep-both";
/// What that process says once the mount serves.
const READY: &str = "serving";

/// What outlives the process: every acknowledged change of names (they are in the kernel's hands), and of contents what was synced.
const RULES: Rules = Rules { names: Kept::Acknowledged, contents: Kept::Synced, sync_keeps_name: true, torn_writes: true };

/// A process that serves the mount until it is killed.
pub(super) struct Serving {
    process: Child,
    place: Place,
}

impl Serving {
    pub(super) fn start(place: &Place) -> Self {
        Self::start_with(place, false)
    }

    /// With automatic export of everything, or without.
    pub(super) fn start_with(place: &Place, exports: bool) -> Self {
        Self::start_doing(place, if exports { "export" } else { "" })
    }

    /// With automatic export of everything that keeps both versions in a conflict.
    pub(super) fn start_keeping_both(place: &Place) -> Self {
        Self::start_doing(place, KEEPS_BOTH)
    }

    /// With automatic import of everything.
    pub(super) fn start_importing(place: &Place) -> Self {
        Self::start_doing(place, "import")
    }

    fn start_doing(place: &Place, by_itself: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the test program"));
        command.args(["mounts::crash::the_serving_process", "--exact", "--include-ignored", "--nocapture"]);
        command.env(BY_ITSELF, by_itself);
        command.env(PLACE, format!("{}\n{}", place.endpoint, place.home.display())).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("starts");
        let mut said = BufReader::new(process.stdout.take().expect("piped")).lines();
        let ready = said.any(|line| line.is_ok_and(|line| line.contains(READY)));
        assert!(ready, "the serving process ended before it served");
        // Whatever it says later goes nowhere, but it must be able to say it.
        std::thread::spawn(move || said.for_each(drop));
        Serving { process, place: place.clone() }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What is left is a mount that nobody serves.
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.place.home.join("mnt"), flags);
    }
}

#[test]
#[ignore = "the process of the tests below"]
fn the_serving_process() {
    let Ok(told) = std::env::var(PLACE) else { return };
    let (endpoint, home) = told.split_once('\n').expect("two lines");
    let place = Place { endpoint: endpoint.to_owned(), home: home.into() };
    let told = std::env::var(BY_ITSELF).unwrap_or_default();
    let (exports, imports, keeps_both) = (told == "export" || told == KEEPS_BOTH, told == "import", told == KEEPS_BOTH);
    let auto_import = AutoImport { new: imports, changed: imports, deleted: imports };
    let on_conflict = if keeps_both { OnConflict::KeepBoth } else { OnConflict::Fail };
    let auto_export = AutoExport { new: exports, changed: exports, deleted: exports, on_conflict };
    let _mount = place.mount(&Options { watched: false, auto_export, auto_import, ..Options::default() });
    println!("{READY}");
    // Until killed, or until the one who started it is gone.
    let _ = std::io::stdin().lock().lines().count();
}

fn kill_rounds(rounds: u64, first_seed: u64) {
    let site = Site::new();
    let place = site.place();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let (mut files, mut behind) = (0, 0);
    for seed in first_seed..first_seed + rounds {
        let serving = Serving::start(&place);
        let (dir, log) = (site.mountpoint().join(format!("round-{seed}")), elsewhere.path().join(format!("log-{seed}")));
        std::fs::create_dir(&dir).expect("makes a directory");
        let mut writer = crash::spawn(&dir, &log, &crash::Plan { seed, ..crash::Plan::default() }).expect("starts a writer");
        crash::wait_for(&log, 30 + 37 * (seed as usize % 20), Duration::from_secs(60));
        drop(serving);
        writer.wait().expect("ends at the first operation that fails");
        let _serving = Serving::start(&place);
        let survived = crash::check(&dir, &log, &RULES).unwrap_or_else(|failure| panic!("{failure}"));
        files += survived.synced_files;
        behind = behind.max(survived.names_behind);
    }
    assert!(files > 0, "something was synced");
    println!("{rounds} rounds, {files} synced files, names at most {behind} operations behind");
}

#[test]
fn what_was_synced_survives_kill_9() {
    kill_rounds(4, 1);
}

/// `cargo nextest run -p forebay-tests --run-ignored only two_hundred_kills`
#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills() {
    kill_rounds(200, 100);
}
