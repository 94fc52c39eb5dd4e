//! The command line of what is about snapshots and the care of data, as clap sees it.

use crate::cli::WhichMount;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// `forebay snapshot`
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot: of everything written until now, while writers go on
    Create {
        /// Its name
        name: OsString,
        /// Only what is below this directory
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
        /// List all of it before, and load all of it afterwards and hold it here: no change of the bucket can take anything away
        #[arg(long)]
        materialize: bool,
        /// Write a report of the files that could not be loaded to DIR/task-N (CSV)
        #[arg(long, value_name = "DIR|URL", requires = "materialize")]
        report: Option<PathBuf>,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Load what is not here yet of a snapshot that was taken before, and hold it
    Materialize {
        /// Its name
        name: OsString,
        /// Write a report of the files that could not be loaded to DIR/task-N (CSV)
        #[arg(long, value_name = "DIR|URL")]
        report: Option<PathBuf>,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Show all snapshots of a mount
    List(WhichMount),
    /// Show one snapshot: how much is in it, what of that is here, and what deleting it frees
    Show {
        /// Its name
        name: OsString,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Make a writable copy of a snapshot's tree; it shares the snapshot's blocks
    Clone {
        /// The snapshot
        name: OsString,
        /// Where the copy is to be: a path in the mount that nothing has yet
        dest: PathBuf,
    },
    /// Roll the directory that a snapshot is of back to it; what was changed since is lost, unless another snapshot has it
    Restore {
        /// Its name
        name: OsString,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Write a snapshot to a bucket, from which 'forebay mount URL@NAME' mounts it on any node
    Export {
        /// Its name
        name: OsString,
        /// s3://bucket[/prefix]; objects of that bucket are not sent again but named, in the version that the snapshot has
        url: String,
        /// Copy the bucket's own objects as well, so that they may be replaced and deleted (where the bucket keeps no versions)
        #[arg(long)]
        copy: bool,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Delete a snapshot; what only it had is freed in the background
    Delete {
        /// Its name
        name: OsString,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Show what differs: '+' added, '-' removed, 'M' changed, 'R' renamed, 'm' attributes only
    Diff {
        /// A snapshot
        name: OsString,
        /// Another one of the same directory, older or younger [default: what is there now]
        other: Option<OsString>,
        #[command(flatten)]
        of: WhichMount,
    },
    /// Show one digest (BLAKE3) of all names, modes and contents of a snapshot: the same for equal trees, wherever they are
    Digest(SnapshotDigestArgs),
}

/// `forebay snapshot digest`
#[derive(Debug, Args)]
pub(crate) struct SnapshotDigestArgs {
    /// A snapshot
    #[arg(required_unless_present = "directory", conflicts_with = "directory")]
    pub(crate) name: Option<OsString>,
    /// Of any directory instead, in a mount or not: of a copy, such as a restored backup
    #[arg(long, value_name = "DIR", conflicts_with = "mount")]
    pub(crate) directory: Option<PathBuf>,
    /// Compare: exit code 0 if the digest is this, else 1
    #[arg(long, value_name = "DIGEST")]
    pub(crate) check: Option<String>,
    #[command(flatten)]
    pub(crate) of: WhichMount,
}

/// `forebay fsck`
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// A mount point, or a path in a mount [default: the only mount there is]
    #[arg(long, value_name = "PATH", conflicts_with = "cache")]
    pub(crate) mount: Option<PathBuf>,
    /// A cache directory of what is not mounted; give it as often as for the mount, in the same order
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Vec<PathBuf>,
    /// Repair what is wrong; nothing that can be reached is dropped, and what was lost goes to lost+found
    #[arg(long)]
    pub(crate) repair: bool,
    /// Read and verify all data as well; with --repair and mounted it is healed
    #[arg(long)]
    pub(crate) data: bool,
    /// Bytes of data to read a second, such as 100M
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_RATE, requires = "data")]
    pub(crate) rate: String,
    /// Copies that what exists only here should have; with --cache
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2), requires = "cache")]
    pub(crate) dirty_copies: u8,
}

/// `forebay scrub`
#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    pub(crate) of: WhichMount,
    /// Bytes to read a second, such as 100M
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_RATE)]
    pub(crate) rate: String,
}

/// What a scrub reads a second: a small part of what a disk can, and a terabyte in three hours.
const DEFAULT_RATE: &str = "100M";
