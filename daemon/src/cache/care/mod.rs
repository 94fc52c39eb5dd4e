//! Care: checking what is here against what the metadata says (`fsck`), reading all of it (`scrub`), and freeing what nothing refers to (`gc`).
//!
//! All of it runs beside readers and writers: it takes small steps, waits where a rate says so, and ends when nobody wants it any more ([`Watch`]). What is told
//! of as wrong was looked at again with references locked, so that nothing is told of that is merely on its way.

mod check;
mod gc;
mod scrub;

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use check::FsckOptions;
pub(super) use gc::Deleted;

/// Problems and lost parts that a report names; more are counted.
const NAMED: usize = 1000;

/// How far something is, and whether it is still wanted.
#[derive(Debug)]
pub struct Watch {
    done: AtomicU64,
    total: AtomicU64,
    is_stopped: AtomicBool,
    began: Instant,
    /// For how long it goes on with nobody asking how far it is.
    patience: Option<Duration>,
    asked_ms: AtomicU64,
}

impl Watch {
    /// `patience`: for how long to go on with nobody asking; `None` is for ever.
    pub fn new(patience: Option<Duration>) -> Self {
        let (done, total, asked_ms) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Watch { done, total, is_stopped: AtomicBool::new(false), began: Instant::now(), patience, asked_ms }
    }

    /// How much is done, and of how much as far as that is known. Whoever asks wants it to go on.
    pub fn ask(&self) -> (u64, u64) {
        self.asked_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Has it end soon.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Whether it is still wanted.
    pub fn is_wanted(&self) -> bool {
        let is_patient = |patience: Duration| {
            let unasked = self.elapsed_ms().saturating_sub(self.asked_ms.load(Ordering::Relaxed));
            u128::from(unasked) < patience.as_millis()
        };
        !self.is_stopped.load(Ordering::Acquire) && self.patience.is_none_or(is_patient)
    }

    fn elapsed_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn expect(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
    }

    /// Waits, unless it is not wanted any more.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.is_wanted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// A part of a file that is lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LostPart {
    /// The file, below the root of the mount; what a snapshot has of it is below `.snapshots`.
    pub path: String,
    /// The first byte.
    pub start: u64,
    /// The first byte behind it, as blocks go: it may be behind the file's end.
    pub end: u64,
}

/// What a look at all frames found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Whether all of it was looked at.
    pub is_whole: bool,
    /// Frames that were read and checked.
    pub frames: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Frames that could not be read, because their device does not answer.
    pub unread_frames: u64,
    /// Damaged blocks of which the bucket has the content: dropped, to be fetched again by who reads them.
    pub cached: u64,
    /// Damaged copies of blocks that have another, which is good.
    pub copies: u64,
    /// Blocks whose description was damaged and whose content was not: stored anew.
    pub descriptions: u64,
    /// Whether that was done; else it was only told.
    pub healed: bool,
    /// Blocks that exist only here and lack their second copy, at the end.
    pub lacking_copies: u64,
    /// Blocks that existed only here and are damaged or gone.
    pub lost_blocks: u64,
    /// Where these are: the first of them by name.
    pub lost: Vec<LostPart>,
}

impl ScrubReport {
    /// Whether anything is left that should not be so.
    pub fn has_problems(&self) -> bool {
        let unhealed = !self.healed && self.cached + self.copies + self.descriptions > 0;
        unhealed || self.lost_blocks > 0 || self.unread_frames > 0 || self.lacking_copies > 0 || !self.is_whole
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What.
    pub what: String,
    /// Whether it is so no longer.
    pub repaired: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckReport {
    /// Whether all of it was looked at.
    pub is_whole: bool,
    /// Blocks that exist only here.
    pub held_blocks: u64,
    /// What is wrong: the first of it.
    pub problems: Vec<Problem>,
    /// How much is wrong, or was.
    pub found: u64,
    /// How much of that was repaired.
    pub repaired: u64,
    /// Blocks that exist only here and are on no device.
    pub missing_blocks: u64,
    /// Where these are: the first of them by name.
    pub missing: Vec<LostPart>,
    /// What a look at the data found, if there was to be one.
    pub data: Option<ScrubReport>,
}

impl FsckReport {
    /// Whether anything is left that should not be so.
    pub fn has_problems(&self) -> bool {
        self.found > self.repaired
            || self.missing_blocks > 0
            || !self.is_whole
            || self.data.as_ref().is_some_and(ScrubReport::has_problems)
    }

    fn add(&mut self, what: String, repaired: bool) {
        self.found += 1;
        self.repaired += u64::from(repaired);
        if self.problems.len() < NAMED {
            self.problems.push(Problem { what, repaired });
        }
    }
}

/// What was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Whether it was done to the end.
    pub is_whole: bool,
    /// Removed files and directories of which something was left.
    pub inodes: u64,
    /// Device bytes of cached blocks that no file has any more.
    pub dropped_bytes: u64,
    /// Segments that were emptied.
    pub segments: u64,
    /// Bytes given back to the file systems of the cache directories.
    pub given_back_bytes: u64,
}
