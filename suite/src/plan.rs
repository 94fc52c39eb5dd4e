//! What is to be measured, and how much of it. Checked once; everything else believes it.

use crate::data::{ALIGN, Texture as DataTexture};
use crate::units;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

pub use crate::data::Texture;

/// Groups of rows that are measured together, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Data that was there before, for the first time and again.
    Existing,
    /// Large files from front to back.
    Sequential,
    /// Blocks in a random order.
    Random,
    /// Many small files with content.
    Small,
    /// Names without content.
    Metadata,
    /// Files mapped into memory.
    Mapped,
    /// Objects sent to a store.
    Put,
    /// Objects and ranges of them read from a store.
    Get,
    /// Listings of a store, and deletions.
    List,
}

impl Group {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Group; 9] = [
        Group::Existing,
        Group::Sequential,
        Group::Random,
        Group::Small,
        Group::Metadata,
        Group::Mapped,
        Group::Put,
        Group::Get,
        Group::List,
    ];

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Group::Existing => "existing",
            Group::Sequential => "sequential",
            Group::Random => "random",
            Group::Small => "small",
            Group::Metadata => "metadata",
            Group::Mapped => "mapped",
            Group::Put => "put",
            Group::Get => "get",
            Group::List => "list",
        }
    }

    /// Its name as a heading.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Existing => "Data that was there",
            Group::Sequential => "Sequential",
            Group::Random => "Random",
            Group::Small => "Small files",
            Group::Metadata => "Metadata",
            Group::Mapped => "Mapped into memory",
            Group::Put => "PUT",
            Group::Get => "GET",
            Group::List => "LIST and DELETE",
        }
    }

    /// Whether it is about stores, not directories.
    pub fn is_of_stores(self) -> bool {
        matches!(self, Group::Put | Group::Get | Group::List)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where O_DIRECT is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectUse {
    /// For reads from the device and for random writes, where the file system takes it; sequential writes are buffered, as programs' are.
    Auto,
    /// For sequential writes as well.
    Always,
    /// Nowhere.
    Never,
}

/// What is dropped before something is read "from the device".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DropPages {
    /// All page, name and inode caches of the machine (root only), else those of the files.
    Machine,
    /// The pages of the files that were written.
    Files,
    /// Nothing: what needs it is not measured.
    Never,
}

/// A checked plan is what [`Plan::check`] let pass.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// How often everything is measured.
    pub rounds: u32,
    /// Bytes in the large files, all streams together; for stores the most bytes a row moves.
    pub size_bytes: u64,
    /// How many small files, names, or objects in a listing.
    pub files: u64,
    /// Bytes in each small file.
    pub file_bytes: u64,
    /// Threads, each with one operation at a time: this is the queue depth.
    pub threads: usize,
    /// After how long a row begins nothing more.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub limit: Duration,
    /// Block sizes of sequential rows; sizes of objects.
    pub blocks: Vec<u64>,
    /// What the bytes are like.
    pub data: DataTexture,
    /// Where O_DIRECT is used.
    pub direct: DirectUse,
    /// What is dropped.
    pub drop: DropPages,
    /// The groups that are wanted; empty is all.
    pub only: Vec<Group>,
    /// What data and orders follow from. A new one for each run: a cache that knew the data of the last one would find it again.
    #[serde(skip)]
    pub seed: u64,
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

/// A value that cannot be planned with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} {cause}")]
pub struct BadPlan {
    /// The option of the command line.
    pub option: &'static str,
    /// What is wrong, and the way out.
    pub cause: String,
}

impl Plan {
    /// Whether it can be carried out.
    pub fn check(&self) -> Result<(), BadPlan> {
        let bad = |option, cause: String| Err(BadPlan { option, cause });
        let largest = self.blocks.iter().copied().max().unwrap_or(0);
        let wants = largest.max(ALIGN as u64).saturating_mul(self.threads as u64);
        if !(1..=100).contains(&self.rounds) {
            return bad("--rounds", format!("{} is not between 1 and 100", self.rounds));
        }
        if !(1..=1024).contains(&self.threads) {
            return bad("--threads", format!("{} is not between 1 and 1024", self.threads));
        }
        if self.files < self.threads as u64 {
            return bad("--files", format!("{} are fewer than the {} threads", self.files, self.threads));
        }
        if self.file_bytes == 0 || self.file_bytes > 1 << 30 {
            return bad("--file-size", "is not between 1 byte and 1 GiB".into());
        }
        if self.limit.is_zero() || self.limit > Duration::from_secs(3600) {
            return bad("--seconds", "is not more than 0 and at most 3600".into());
        }
        if self.blocks.is_empty() || self.blocks.iter().any(|block| *block == 0 || *block > 1 << 30) {
            return bad("--block", "is not between 4 KiB and 1 GiB".into());
        }
        if let Some(odd) = self.blocks.iter().find(|block| !block.is_multiple_of(ALIGN as u64)) {
            return bad("--block", format!("{odd} is not a multiple of 4096, which O_DIRECT needs"));
        }
        if self.size_bytes < wants {
            let (size, wants) = (units::size(self.size_bytes), units::size(wants));
            return bad(
                "--size",
                format!("{size} is less than a block for each thread: give {wants} or more, or fewer --threads"),
            );
        }
        Ok(())
    }

    /// Whether a group is wanted.
    pub fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    /// Bytes that the groups have on the disk at most.
    pub fn needed_bytes(&self) -> u64 {
        let small = self.files.saturating_mul(self.file_bytes.next_multiple_of(ALIGN as u64));
        let names = self.files.saturating_mul(ALIGN as u64);
        let laid_out = if self.wants(Group::Random) { 2 } else { u64::from(self.wants(Group::Mapped)) };
        let laid_out = self.size_bytes.saturating_mul(laid_out);
        let passing = [(Group::Sequential, self.size_bytes), (Group::Small, small), (Group::Metadata, names)];
        let largest = passing.into_iter().filter(|(group, _)| self.wants(*group)).map(|(_, bytes)| bytes).max();
        laid_out.saturating_add(largest.unwrap_or(0))
    }

    /// One, and all threads: the numbers of threads that rows have.
    pub(crate) fn stream_counts(&self) -> Vec<usize> {
        let mut counts = vec![1, self.threads];
        counts.dedup();
        counts
    }
}

/// A plan for tests.
#[cfg(test)]
pub(crate) fn tiny() -> Plan {
    Plan {
        rounds: 1,
        size_bytes: 1 << 20,
        files: 12,
        file_bytes: 5000,
        threads: 2,
        limit: Duration::from_millis(5),
        blocks: vec![64 << 10],
        data: DataTexture::Random,
        direct: DirectUse::Auto,
        drop: DropPages::Files,
        only: Vec::new(),
        seed: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named_by_its_option() {
        assert_eq!(tiny().check(), Ok(()));
        let option = |change: fn(&mut Plan)| {
            let mut plan = tiny();
            change(&mut plan);
            plan.check().expect_err("a bad plan").option
        };
        assert_eq!(option(|plan| plan.rounds = 0), "--rounds");
        assert_eq!(option(|plan| plan.threads = 0), "--threads");
        assert_eq!(option(|plan| plan.files = 1), "--files");
        assert_eq!(option(|plan| plan.file_bytes = 0), "--file-size");
        assert_eq!(option(|plan| plan.limit = Duration::ZERO), "--seconds");
        assert_eq!(option(|plan| plan.blocks = vec![1000]), "--block");
        assert_eq!(option(|plan| plan.blocks.clear()), "--block");
        assert_eq!(option(|plan| plan.size_bytes = 64 << 10), "--size");
    }

    #[test]
    fn the_disk_needs_room_for_what_lives_at_the_same_time() {
        let needs = |only: &[Group]| Plan { only: only.to_vec(), ..tiny() }.needed_bytes();
        let mib = 1 << 20;
        assert_eq!(needs(&[]), 3 * mib, "two laid out, and the streams");
        assert_eq!(needs(&[Group::Sequential]), mib);
        assert_eq!(needs(&[Group::Mapped]), mib);
        assert_eq!(needs(&[Group::Small]), 12 * 8192);
        assert_eq!(needs(&[Group::Existing]), 0);
        assert_eq!(Plan { files: u64::MAX, ..tiny() }.needed_bytes(), u64::MAX, "more than any disk has");
    }

    #[test]
    fn one_thread_is_measured_once() {
        assert_eq!(tiny().stream_counts(), [1, 2]);
        assert_eq!(Plan { threads: 1, ..tiny() }.stream_counts(), [1]);
    }
}
