//! The command line of `forebay bench`, as clap sees it. What the values mean is checked in [`crate::bench_plan`].

use crate::cli::StoreArgs;
use clap::Args;
use std::path::PathBuf;

/// `forebay bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A directory on any file system; or a store: s3://bucket[/prefix], gs://…, az://…, file:///dir
    pub(crate) target: PathBuf,
    /// Measure this one too, by turns (A B A B …), and show ratios
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) against: Option<PathBuf>,
    /// Also read data that is there: a file or directory below the directory; cold, if nobody has read it here
    #[arg(long, value_name = "PATH")]
    pub(crate) read_from: Option<PathBuf>,
    /// Only these: existing, sequential, random, small, metadata, mapped; of a store put, get, list
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Write a page with charts to this file, besides the table
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// How often everything is measured; the median is shown [default: 3]
    #[arg(long, value_name = "N", help_heading = "How much")]
    pub(crate) rounds: Option<u32>,
    /// A rough look: one round, an eighth of the data, a quarter of the time
    #[arg(long, help_heading = "How much")]
    pub(crate) quick: bool,
    /// Bytes in the large files; of a store the most that a row sends [default: 512M]
    #[arg(long, value_name = "SIZE", help_heading = "How much")]
    pub(crate) size: Option<String>,
    /// Small files, names, objects in a listing [default: 5000; of a store 1000]
    #[arg(long, value_name = "N", help_heading = "How much")]
    pub(crate) files: Option<u64>,
    /// Bytes in each small file [default: 64K]
    #[arg(long, value_name = "SIZE", help_heading = "How much")]
    pub(crate) file_size: Option<String>,
    /// Threads, each with one operation at a time (the queue depth); rows are of one and of all [default: 4; of a store 16]
    #[arg(long, value_name = "N", help_heading = "How much")]
    pub(crate) threads: Option<usize>,
    /// After how long a row begins nothing more [default: 1]
    #[arg(long, value_name = "SECONDS", help_heading = "How much")]
    pub(crate) seconds: Option<f64>,
    /// Block sizes of sequential rows [default: 128K,1M]; of a store sizes of objects [default: 64K,1M,8M]
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', help_heading = "How much")]
    pub(crate) block: Vec<String>,

    /// What is written: random (cannot be compressed or deduplicated) or compressible (to a third)
    #[arg(long, value_name = "KIND", value_parser = ["random", "compressible"], default_value = "random", help_heading = "How")]
    pub(crate) data: String,
    /// O_DIRECT: auto (device reads and random writes, where it is taken), always (sequential writes too), never
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "always", "never"], default_value = "auto", help_heading = "How")]
    pub(crate) direct: String,
    /// What is dropped before a read from the device: all caches of the machine (root only, else files), pages of the bench's files, or nothing
    #[arg(long, value_name = "WHAT", value_parser = ["machine", "files", "never"], default_value = "machine", help_heading = "How")]
    pub(crate) drop_caches: String,

    #[command(flatten)]
    pub(crate) ml: MlArgs,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What training jobs do, instead of single calls.
#[derive(Debug, Args)]
pub(crate) struct MlArgs {
    /// Emulate a job: unet3d, resnet50, cosmoflow, imagefolder, webdataset, safetensors or checkpoint; --size limits its files [default: 4G], --rounds its
    /// epochs, --read-from names files that are there
    #[arg(long, value_name = "NAME", help_heading = "ML workloads")]
    pub(crate) workload: Option<String>,
    /// How many accelerators, each with loaders of its own; ranks of a checkpoint or of a model that is loaded
    #[arg(long, value_name = "N", default_value_t = 1, requires = "workload", help_heading = "ML workloads")]
    pub(crate) accelerators: usize,
    /// Which accelerator: it decides how long a batch is computed on
    #[arg(long, value_name = "KIND", value_parser = ["h100", "a100"], default_value = "h100", requires = "workload", help_heading = "ML workloads")]
    pub(crate) gpu: String,
    /// The files stay, for --read-from another time
    #[arg(long, requires = "workload", help_heading = "ML workloads")]
    pub(crate) keep: bool,
}
