//! The command line as clap sees it: names and help only. What the values mean is checked in [`crate::settings`], where the
//! errors can say more than a type.

use crate::cli_bench::BenchArgs;
use crate::cli_data::{FsckArgs, ScrubArgs, SnapshotCommand};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A parallel file-system cache for data in S3.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs, one file each in `cmd/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a bucket (or a part of it)
    Mount(Box<MountArgs>),
    /// Unmount
    #[command(alias = "unmount")]
    Umount(UmountArgs),
    /// Show what is mounted, cache use, devices, requests; of a path in a mount, how much there is and what it takes here
    Status(StatusArgs),
    /// Show or set how files are spread over the cache's devices
    #[command(subcommand)]
    Stripe(StripeCommand),
    /// Show or set quotas of users, groups and directory trees
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Bring the names and attributes of everything below a path from the bucket, so that listings cost nothing
    Import(ImportArgs),
    /// Send what was made and changed below paths to the bucket
    Export(ExportArgs),
    /// Let go of the data of files that the bucket has; reading brings it back
    Release(ReleaseArgs),
    /// Bring the data of all files below paths into the cache ahead of its use
    Preload(PreloadArgs),
    /// Show and change the states of files as Lustre's HSM names them; archive, restore and release them
    #[command(subcommand)]
    Hsm(HsmCommand),
    /// List, show, wait for and cancel tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Link directories to buckets (data repository associations), and say what goes between them by itself
    #[command(subcommand)]
    Dra(DraCommand),
    /// Keep the tree as it is now under a name, and look at it later: it is to be seen in MOUNTPOINT/.snapshots/NAME
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Check metadata, blocks and references against each other, mounted or not, and repair what is wrong
    Fsck(FsckArgs),
    /// Read and verify all data in the cache; heal it from the bucket or its second copy, and name what is lost
    Scrub(ScrubArgs),
    /// Free at once what nothing refers to, and give its space back to the disk
    Gc(WhichMount),
    /// Measure a directory or a store: sequential, random, small files, metadata; GET, PUT, LIST
    Bench(Box<BenchArgs>),
    /// Everything embedded on this machine: an S3 server with sample data, a mount, a cold and a warm read
    Quickstart(QuickstartArgs),
}

/// `forebay mount`
#[derive(Clone, Debug, Args)]
pub(crate) struct MountArgs {
    /// s3://bucket[/prefix], gs://…, az://… or file:///dir, with @NAME for a snapshot that was exported there; or none, for directories that 'forebay dra create' links to buckets
    pub(crate) repository: String,
    /// An existing directory
    pub(crate) mountpoint: PathBuf,

    /// Cache directory; give it once per device, and files are striped over them [default: ~/.cache/forebay/ID]
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub(crate) cache: Vec<PathBuf>,
    /// Bytes to use on each device, such as 500G [default: all but 5% of it]
    #[arg(long, value_name = "SIZE", help_heading = "Cache")]
    pub(crate) cache_size: Option<String>,
    /// Bound on the memory of the whole process [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Cache")]
    pub(crate) memory_target: Option<String>,
    /// What survives a crash: persistent or scratch [default: persistent]
    #[arg(long, value_name = "KIND", help_heading = "Cache")]
    pub(crate) deployment: Option<String>,
    /// Copies of what exists only here, on different devices: 1 or 2 [default: 1]
    #[arg(long, value_name = "N", help_heading = "Cache")]
    pub(crate) dirty_copies: Option<String>,
    /// lz4 or none [default: lz4]
    #[arg(long, value_name = "CODEC", help_heading = "Cache")]
    pub(crate) compression: Option<String>,
    /// Store equal blocks once: on or off [default: on]
    #[arg(long, value_name = "on|off", help_heading = "Cache")]
    pub(crate) dedup: Option<String>,
    /// Devices a file is spread over; 0 means all [default: 0]
    #[arg(long, value_name = "N", help_heading = "Cache")]
    pub(crate) stripe_count: Option<String>,
    /// Bytes on one device before the next takes over [default: 1M]
    #[arg(long, value_name = "SIZE", help_heading = "Cache")]
    pub(crate) stripe_size: Option<String>,

    /// Bring changes of the bucket in by themselves: new,changed,deleted
    #[arg(long, value_name = "EVENTS", help_heading = "Repository")]
    pub(crate) auto_import: Option<String>,
    /// SQS queue that the bucket sends its event notifications to; with --auto-import
    #[arg(long, value_name = "URL", help_heading = "Repository")]
    pub(crate) event_queue_url: Option<String>,
    /// Send changes of files to the bucket by themselves: new,changed,deleted
    #[arg(long, value_name = "EVENTS", help_heading = "Repository")]
    pub(crate) auto_export: Option<String>,
    /// What automatic export does where the bucket has something else than was seen last: fail, overwrite, skip or keep-both [default: fail]
    #[arg(long, value_name = "WHAT", help_heading = "Repository")]
    pub(crate) on_conflict: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Where owners and modes come from: free (with GETs), eager (ask for each), off [default: free]
    #[arg(long, value_name = "WHEN", help_heading = "Repository")]
    pub(crate) posix_metadata: Option<String>,

    /// Mount read-only
    #[arg(long, help_heading = "Mount")]
    pub(crate) read_only: bool,
    /// Let other users in
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_other: bool,
    /// Owner of what names none [default: yours]
    #[arg(long, value_name = "ID", help_heading = "Mount")]
    pub(crate) uid: Option<String>,
    /// Group of what names none [default: yours]
    #[arg(long, value_name = "ID", help_heading = "Mount")]
    pub(crate) gid: Option<String>,
    /// Permissions of files that name none, octal [default: 0755]
    #[arg(long, value_name = "MODE", help_heading = "Mount")]
    pub(crate) file_mode: Option<String>,
    /// Permissions of directories that name none, octal [default: 0755]
    #[arg(long, value_name = "MODE", help_heading = "Mount")]
    pub(crate) dir_mode: Option<String>,
    /// For how long names and attributes are believed: seconds, 5m, 1h, or indefinite [default: 60]
    #[arg(long, value_name = "TIME", help_heading = "Mount")]
    pub(crate) metadata_ttl: Option<String>,
    /// Options in the form of mount(8) and fstab
    #[arg(short = 'o', value_name = "OPT[,OPT…]", help_heading = "Mount")]
    pub(crate) options: Vec<String>,
    /// Stay in the foreground
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) foreground: bool,
    /// Log file [default: forebay.log in the first cache directory; with -f, standard error]
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub(crate) log: Option<PathBuf>,
    /// Log more
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) verbose: bool,

    /// Refuse to execute files (`-o noexec`)
    #[arg(long, hide = true)]
    pub(crate) noexec: bool,
    /// Set by the command when it starts the daemon: standard output carries the ready signal
    #[arg(long, hide = true)]
    pub(crate) ready_on_stdout: bool,
}

/// How a bucket is reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where the store is, if it is not AWS
    #[arg(long, value_name = "URL", help_heading = "Repository")]
    pub(crate) endpoint_url: Option<String>,
    /// The bucket's region
    #[arg(long, value_name = "REGION", help_heading = "Repository")]
    pub(crate) region: Option<String>,
    /// Profile of the AWS configuration files
    #[arg(long, value_name = "PROFILE", help_heading = "Repository")]
    pub(crate) profile: Option<String>,
    /// Put the bucket in the path, not in the host name
    #[arg(long, help_heading = "Repository")]
    pub(crate) force_path_style: bool,
    /// Do not sign requests (public buckets)
    #[arg(long, help_heading = "Repository")]
    pub(crate) no_sign_request: bool,
    /// Encryption at the store: AES256, aws:kms, aws:kms:dsse or sse-c
    #[arg(long, value_name = "KIND", help_heading = "Repository")]
    pub(crate) sse: Option<String>,
    /// KMS key; for sse-c the key itself, in base64
    #[arg(long, value_name = "KEY", help_heading = "Repository")]
    pub(crate) sse_kms_key_id: Option<String>,
    /// Pay for requests to somebody else's bucket
    #[arg(long, help_heading = "Repository")]
    pub(crate) requester_pays: bool,
}

/// `forebay umount`
#[derive(Debug, Args)]
pub(crate) struct UmountArgs {
    /// Where it is mounted
    pub(crate) mountpoint: PathBuf,
    /// Export what exists only here first
    #[arg(long, conflicts_with = "discard")]
    pub(crate) export: bool,
    /// Give up what exists only here
    #[arg(long)]
    pub(crate) discard: bool,
}

/// `forebay status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One mount only; or a path in a mount (also below .snapshots): what is at and below it is counted
    pub(crate) path: Option<PathBuf>,
    /// List the keys that cannot be shown, and why
    #[arg(long)]
    pub(crate) hidden_keys: bool,
}

/// `forebay stripe`
#[derive(Debug, Subcommand)]
pub(crate) enum StripeCommand {
    /// Show the layout of a file or directory
    Get {
        /// A file or directory in a mount
        path: PathBuf,
    },
    /// Set the layout of a directory (for what is cached below it from now on) or of a file not yet cached
    Set {
        /// A file or directory in a mount
        path: PathBuf,
        /// Devices to spread over; 0 means all
        #[arg(long, value_name = "N")]
        stripe_count: Option<String>,
        /// Bytes on one device before the next takes over
        #[arg(long, value_name = "SIZE")]
        stripe_size: Option<String>,
    },
}

/// `forebay quota`
#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Show one quota; without --user, --group or --project your own, your group's, and that of the project the path is in
    Get {
        /// A mount point, or a path in a mount
        path: PathBuf,
        #[command(flatten)]
        whose: WhoseQuota,
    },
    /// Set limits (0 is none), or grace periods
    Set {
        /// A mount point, or a path in a mount; with --project the directory whose tree is limited
        path: PathBuf,
        #[command(flatten)]
        whose: WhoseQuota,
        /// Bytes that may be exceeded for the grace period, such as 10G
        #[arg(long, value_name = "SIZE")]
        block_soft: Option<String>,
        /// Bytes that may not be exceeded
        #[arg(long, value_name = "SIZE")]
        block_hard: Option<String>,
        /// Files and directories that may be exceeded for the grace period
        #[arg(long, value_name = "N")]
        inode_soft: Option<u64>,
        /// Files and directories that may not be exceeded
        #[arg(long, value_name = "N")]
        inode_hard: Option<u64>,
        /// How long the soft limit of bytes may be exceeded, such as 7d; for all quotas of the kinds in --of
        #[arg(long, value_name = "TIME")]
        block_grace: Option<String>,
        /// The same for files and directories
        #[arg(long, value_name = "TIME")]
        inode_grace: Option<String>,
        /// Whose grace periods: user, group, project [default: all]
        #[arg(long, value_name = "KINDS", value_delimiter = ',')]
        of: Vec<String>,
    },
    /// Show everybody who uses something or has limits
    Report {
        /// A mount point, or a path in a mount
        path: PathBuf,
        /// Of these kinds only: user, group, project
        #[arg(long, value_name = "KINDS", value_delimiter = ',')]
        of: Vec<String>,
    },
}

/// Whose quota.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct WhoseQuota {
    /// A user, by name or number
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// A group, by name or number
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// The directory tree
    #[arg(short, long)]
    pub(crate) project: bool,
}

/// `forebay import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Paths in a mount, or s3://bucket/prefix of what is mounted
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Remove names that the bucket no longer has, unless they were changed here
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
}

/// `forebay export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Paths in a mount
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Delete objects whose files were deleted here, unless the bucket has something else by now
    #[arg(long)]
    pub(crate) prune: bool,
    /// What is done where the bucket has something else than was seen last
    #[arg(long, value_name = "WHAT", value_parser = ["fail", "overwrite", "skip", "keep-both"], default_value = "fail")]
    pub(crate) on_conflict: String,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
}

/// `forebay release`
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Paths in a mount
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Only files that were last used longer ago than this, such as 7d [default: all]
    #[arg(long, value_name = "TIME")]
    pub(crate) older_than: Option<String>,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
}

/// `forebay preload`
#[derive(Debug, Args)]
pub(crate) struct PreloadArgs {
    /// Paths in a mount
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
}

/// `forebay hsm`
#[derive(Debug, Subcommand)]
pub(crate) enum HsmCommand {
    /// Show the states of files, as 'lfs hsm_state' does
    State {
        /// Paths in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show what is being done with the data of files, as 'lfs hsm_action' does
    Action {
        /// Paths in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Send files to the bucket: an export task
    Archive(HsmTaskArgs),
    /// Bring the data of files here: a preload task
    Restore(HsmTaskArgs),
    /// Let go of the data of files that the bucket has: a release task
    Release(HsmTaskArgs),
    /// Set states: norelease (the data stays here) and noarchive (it does not go to the bucket); the others say how things are
    Set {
        #[command(flatten)]
        flags: HsmFlags,
        /// Paths in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Clear states
    Clear {
        #[command(flatten)]
        flags: HsmFlags,
        /// Paths in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

/// The verbs of `forebay hsm` that start a task.
#[derive(Debug, Args)]
pub(crate) struct HsmTaskArgs {
    /// Paths in a mount
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Wait until the task has ended, and show its progress
    #[arg(long)]
    pub(crate) wait: bool,
    /// Write a report of the files that failed to DIR/task-N (CSV)
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// States of a file.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct HsmFlags {
    /// The data stays here: not released, and dropped from the cache last
    #[arg(long)]
    pub(crate) norelease: bool,
    /// The data does not go to the bucket
    #[arg(long)]
    pub(crate) noarchive: bool,
    /// The bucket lost the file
    #[arg(long)]
    pub(crate) lost: bool,
    /// The bucket has an object for the file
    #[arg(long)]
    pub(crate) exists: bool,
    /// The object has the file's content
    #[arg(long)]
    pub(crate) archived: bool,
    /// The file was changed since
    #[arg(long)]
    pub(crate) dirty: bool,
}

/// What all verbs that start a task take.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// Wait until the task has ended, and show its progress (what happens without --detach)
    #[arg(long, conflicts_with = "detach")]
    pub(crate) wait: bool,
    /// Return once the task is made; 'forebay task wait' waits for it
    #[arg(long)]
    pub(crate) detach: bool,
    /// Write a report of the files that failed (CSV) to task-N below a directory, or below a place in a bucket (s3://BUCKET/PREFIX)
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) report: Option<PathBuf>,
}

/// `forebay task`
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Show all tasks, oldest first
    List(WhichMount),
    /// Show one task
    Show(WhichTask),
    /// Wait for a task and show its progress; exit code 0 if it succeeded
    Wait(WhichTask),
    /// End a task as soon as what it has in flight is done
    Cancel(WhichTask),
}

/// Which mount's tasks.
#[derive(Debug, Args)]
pub(crate) struct WhichMount {
    /// A mount point, or a path in a mount [default: the only mount there is]
    #[arg(long, value_name = "PATH")]
    pub(crate) mount: Option<PathBuf>,
}

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct WhichTask {
    /// Its number
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) of: WhichMount,
}

/// `forebay dra`
#[derive(Debug, Subcommand)]
pub(crate) enum DraCommand {
    /// Link a directory to a bucket; it is made if it is not there
    Create(Box<DraCreateArgs>),
    /// Show all associations of a mount, and whether their buckets can be used
    List(WhichMount),
    /// Show one association
    Show {
        /// Its directory
        path: PathBuf,
    },
    /// Change what goes by itself
    Update {
        /// Its directory
        path: PathBuf,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Unlink a directory from its bucket, whose objects stay. The files stay as well: what is only in the bucket is brought here first
    Delete {
        /// Its directory
        path: PathBuf,
        /// Remove the files here instead
        #[arg(long)]
        delete_data: bool,
        /// Return at once; 'forebay dra show' says how far it is
        #[arg(long)]
        detach: bool,
    },
}

/// `forebay dra create`
#[derive(Debug, Args)]
pub(crate) struct DraCreateArgs {
    /// A directory in a mount
    pub(crate) path: PathBuf,
    /// s3://bucket[/prefix], gs://…, az://… or file:///dir
    pub(crate) repository: String,
    /// The SQS queue that the bucket's events go to, for automatic import
    #[arg(long, value_name = "URL")]
    pub(crate) event_queue_url: Option<String>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What goes by itself.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Bring changes of the bucket in by themselves: new,changed,deleted or none
    #[arg(long, value_name = "EVENTS")]
    pub(crate) auto_import: Option<String>,
    /// Send changes of files to the bucket by themselves: new,changed,deleted or none
    #[arg(long, value_name = "EVENTS")]
    pub(crate) auto_export: Option<String>,
    /// What automatic export does where the bucket has something else than was seen last
    #[arg(long, value_name = "WHAT", value_parser = ["fail", "overwrite", "skip", "keep-both"])]
    pub(crate) on_conflict: Option<String>,
}

/// `forebay quickstart`
#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
