//! Which workloads, and how large.

use crate::harness::data::Dataset;
use crate::harness::store::Profile;
use crate::options::Options;
use crate::workload::small::{Order, Small};
use crate::workload::{
    Workload, cached_seq::CachedSeq, cold_seq::ColdSeq, export::Export, export::Files, fsync::Fsync, import::Import,
    listing::Listing, mount_time::MountTime, preload::Preload, random_4k::Random4k, snapshots::Snapshots, write_seq::WriteSeq,
    write_small::WriteSmall,
};

const MIB: u64 = 1 << 20;
/// The size of a small file.
const SMALL_BYTES: u64 = 100 << 10;
/// The size of an object whose name is all that counts.
const NAMED_BYTES: u64 = 1 << 10;
/// Large files of an export.
const EXPORTED: usize = 4;
/// Readers of small files.
const READERS: usize = 8;

/// Sizes and workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Tiny, under a minute, Forebay beside the plain disk and the plain client: does everything still run?
    Smoke,
    /// The rows of the design's table of targets.
    Table,
    /// Every workload.
    Full,
}

/// The sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rounds of each workload.
    pub rounds: usize,
    stream_bytes: u64,
    small_files: usize,
    latency_files: usize,
    random_bytes: u64,
    random_seconds: u32,
    written_bytes: u64,
    written_files: usize,
    names: usize,
    syncs: usize,
}

impl Preset {
    /// The peers it names when the command line names none.
    pub fn peers(self) -> Vec<String> {
        match self {
            Preset::Smoke => ["plain", "plain-client", "forebay"].map(str::to_owned).to_vec(),
            Preset::Table | Preset::Full => Vec::new(),
        }
    }

    /// Its sizes, with what the command line changes.
    pub fn sizes(self, options: &Options) -> Sizes {
        let base = match self {
            Preset::Smoke => Sizes {
                rounds: 1,
                stream_bytes: 64 * MIB,
                small_files: 400,
                latency_files: 100,
                random_bytes: 64 * MIB,
                random_seconds: 1,
                written_bytes: 64 * MIB,
                written_files: 200,
                names: 2_000,
                syncs: 20,
            },
            Preset::Table | Preset::Full => Sizes {
                rounds: 3,
                stream_bytes: 2048 * MIB,
                small_files: 20_000,
                latency_files: 2_000,
                random_bytes: 1024 * MIB,
                random_seconds: 5,
                written_bytes: 4096 * MIB,
                written_files: 10_000,
                names: 100_000,
                syncs: 500,
            },
        };
        Sizes {
            rounds: options.rounds.map_or(base.rounds, |n| n as usize),
            stream_bytes: options.stream_mib.map_or(base.stream_bytes, |n| n * MIB),
            small_files: options.small_files.map_or(base.small_files, |n| n as usize),
            latency_files: options.latency_files.map_or(base.latency_files, |n| n as usize),
            random_bytes: options.random_mib.map_or(base.random_bytes, |n| n * MIB),
            random_seconds: options.random_seconds.unwrap_or(base.random_seconds),
            written_bytes: options.written_mib.map_or(base.written_bytes, |n| n * MIB),
            names: options.names.map_or(base.names, |n| n as usize),
            ..base
        }
    }

    /// Its workloads, those that share data beside each other.
    pub fn workloads(self, sizes: &Sizes) -> Vec<Box<dyn Workload>> {
        let mut all: Vec<Box<dyn Workload>> = Vec::new();
        for streams in [1, 4] {
            let set = sizes.streams(streams);
            for profile in [Profile::LOOPBACK, Profile::REGION] {
                all.push(Box::new(ColdSeq { set: set.clone(), streams, profile }));
            }
            all.push(Box::new(CachedSeq { set, streams }));
        }
        let (random, seconds) = (Dataset::large(1, sizes.random_bytes), sizes.random_seconds);
        let depths: &[(u32, u32)] = if self == Preset::Table { &[(1, 1), (32, 1)] } else { &[(1, 1), (32, 1), (1, 4)] };
        for (depth, jobs) in depths.iter().copied() {
            all.push(Box::new(Random4k { set: random.clone(), depth, jobs, seconds }));
        }
        all.extend(self.small(sizes));
        all.extend(sizes.writing());
        all.extend(sizes.tasks());
        all
    }

    fn small(self, sizes: &Sizes) -> Vec<Box<dyn Workload>> {
        let near = Dataset::small(sizes.small_files, SMALL_BYTES);
        let far = Dataset::small(sizes.latency_files, SMALL_BYTES);
        let small = |set: &Dataset, profile, order, cached| -> Box<dyn Workload> {
            Box::new(Small { set: set.clone(), profile, order, readers: READERS, cached })
        };
        let mut all = Vec::new();
        for order in [Order::Directory, Order::Shuffled] {
            all.push(small(&near, Profile::LOOPBACK, order, false));
            all.push(small(&near, Profile::LOOPBACK, order, true));
            if order == Order::Directory || self != Preset::Table {
                all.push(small(&far, Profile::REGION, order, false));
            }
        }
        all.push(Box::new(Listing { set: near.clone(), profile: Profile::LOOPBACK }));
        if self != Preset::Table {
            all.push(Box::new(Listing { set: far, profile: Profile::REGION }));
        }
        for restarted in [false, true] {
            all.push(Box::new(MountTime { set: near.clone(), restarted }));
        }
        all
    }
}

impl Sizes {
    fn writing(&self) -> Vec<Box<dyn Workload>> {
        // Something to be in the bucket.
        let set = Dataset::small(16, SMALL_BYTES);
        vec![
            Box::new(WriteSeq { set: set.clone(), bytes: self.written_bytes }),
            Box::new(WriteSmall { set: set.clone(), files: self.written_files }),
            Box::new(Fsync { set: set.clone(), times: self.syncs }),
            Box::new(Export { set: set.clone(), files: Files::Small(self.small_files) }),
            Box::new(Export { set, files: Files::Large(EXPORTED, self.stream_bytes / EXPORTED as u64) }),
        ]
    }

    fn tasks(&self) -> Vec<Box<dyn Workload>> {
        let set = self.streams(4);
        vec![
            Box::new(Preload { set: set.clone(), profile: Profile::LOOPBACK }),
            Box::new(Preload { set, profile: Profile::REGION }),
            Box::new(Import { set: Dataset::small(self.names, NAMED_BYTES) }),
            Box::new(Snapshots { set: Dataset::small(self.names, NAMED_BYTES) }),
        ]
    }

    /// The bytes of the sequential workloads, in as many objects as streams and at least two.
    fn streams(&self, streams: usize) -> Dataset {
        let objects = streams.max(2);
        Dataset::large(objects, self.stream_bytes / objects as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn workloads_have_names_and_targets_of_their_own() {
        let options = Options::parse_from(["forebay-bench"]);
        for preset in [Preset::Smoke, Preset::Table, Preset::Full] {
            let workloads = preset.workloads(&preset.sizes(&options));
            let names: std::collections::BTreeSet<String> = workloads.iter().map(|workload| workload.name()).collect();
            assert_eq!(names.len(), workloads.len(), "{names:?}");
            assert!(workloads.iter().all(|workload| !workload.targets().is_empty()), "{names:?}");
        }
    }

    #[test]
    fn the_command_line_overrides_a_presets_sizes() {
        let options = Options::parse_from(["forebay-bench", "--stream-mib", "100", "--rounds", "7"]);
        let sizes = Preset::Smoke.sizes(&options);
        assert_eq!((sizes.stream_bytes, sizes.rounds, sizes.small_files), (100 * MIB, 7, 400));
    }
}
