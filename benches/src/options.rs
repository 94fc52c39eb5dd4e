//! The command line of `forebay-bench`.

use crate::peer::variant::{Before, Variant};
use crate::peer::{self, Peer};
use crate::preset::Preset;
use crate::target;
use std::path::PathBuf;

/// Measures Forebay beside the plain disk, a plain client and other mounts of the same bucket.
///
/// Needs root (it drops the page cache) and the store: cargo build --release --manifest-path
/// ../shared/bench-store/Cargo.toml --target-dir target/bench-store
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "forebay-bench", version, max_term_width = 120)]
pub struct Options {
    /// Only workloads whose name starts with one of these (see --list)
    pub workloads: Vec<String>,
    /// Sizes and workloads: smoke is for CI, table prints the targets with figure and verdict, full adds the other variants
    #[arg(long, value_enum, default_value_t = Preset::Full)]
    pub preset: Preset,
    /// Only these peers, each of which must be there; default: every peer found on the machine
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Name workloads and peers, and run nothing
    #[arg(long)]
    pub list: bool,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Rounds of each workload
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Bytes of the sequential workloads, in MiB, over all streams
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..))]
    pub stream_mib: Option<u64>,
    /// Small files
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub small_files: Option<u32>,
    /// Small files of the workloads with latency
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub latency_files: Option<u32>,
    /// The file of the random reads, in MiB
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..))]
    pub random_mib: Option<u64>,
    /// Seconds of each round of random reads
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub random_seconds: Option<u32>,
    /// Bytes of the file that is written, in MiB
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub written_mib: Option<u64>,
    /// Objects of the workloads that are about names
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..))]
    pub names: Option<u32>,
    /// Connections of the plain client to large objects
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub client_connections: u16,
    /// Where the data, the caches and the mounts go: on the disk to be measured
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub work_dir: PathBuf,
    /// Seconds after which one step counts as hung
    #[arg(long, default_value_t = 600)]
    pub deadline: u64,
    /// The directory with bench-store and bench-blast
    #[arg(long, default_value = "target/bench-store/release")]
    pub store_dir: PathBuf,
    /// The forebay program
    #[arg(long, default_value = "target/release/forebay")]
    pub forebay: PathBuf,
    /// Further arguments of `forebay mount`, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub forebay_args: String,
    /// The mount-s3 program
    #[arg(long, default_value = "mount-s3")]
    pub mount_s3: PathBuf,
    /// The juicefs program
    #[arg(long, default_value = "juicefs")]
    pub juicefs: PathBuf,
}

impl Options {
    /// Every peer there is, whether or not it is on this machine.
    pub fn all_peers(&self) -> Vec<Box<dyn Peer>> {
        let mount_s3 = |cache| peer::mountpoint::Mountpoint { program: self.mount_s3.clone(), cache };
        let forebay = |more: &[&str]| {
            let given = self.forebay_args.split_whitespace();
            let arguments = given.chain(more.iter().copied()).map(str::to_owned).collect();
            peer::forebay::Forebay { program: self.forebay.clone(), arguments }
        };
        let variant = |name, more: &[&str], before| Variant { name, mount: forebay(more), before };
        vec![
            Box::new(peer::plain::Plain),
            Box::new(peer::bindfs::Bindfs),
            Box::new(peer::plain_client::PlainClient {
                program: self.store_dir.join("bench-blast"),
                connections: usize::from(self.client_connections),
            }),
            Box::new(forebay(&[])),
            Box::new(variant(target::WITH_SNAPSHOTS, &[], Before::Snapshots(100))),
            Box::new(variant(target::WITHOUT_DEDUP, &["--dedup", "off"], Before::Nothing)),
            Box::new(mount_s3(true)),
            Box::new(mount_s3(false)),
            Box::new(peer::s3fs::S3fs),
            Box::new(peer::rclone::Rclone),
            Box::new(peer::juicefs::Juicefs { program: self.juicefs.clone() }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn peers_have_names_of_their_own() {
        let options = Options::parse_from(["forebay-bench"]);
        let names: std::collections::BTreeSet<&str> = options.all_peers().iter().map(|peer| peer.name()).collect();
        assert_eq!(names.len(), options.all_peers().len());
    }
}
