//! `cargo run --release -p forebay-suite --example ml -- unet3d DIR`: one of the ML workloads in a directory.

use clap::Parser;
use forebay_suite::ml::{self, Gpu, MlSettings, Overrides, Silent, Workload};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Runs an ML workload in a directory.
#[derive(Parser)]
struct Arguments {
    /// webdataset, imagefolder, safetensors, unet3d, resnet50, cosmoflow or checkpoint.
    workload: Workload,
    /// Where files are made.
    dir: PathBuf,
    /// h100 or a100.
    #[arg(long, default_value = "h100")]
    gpu: Gpu,
    /// How many accelerators or ranks.
    #[arg(long, default_value_t = 1)]
    accelerators: usize,
    /// Bytes of files, at most.
    #[arg(long, default_value_t = 4 << 30)]
    dataset_size: u64,
    /// Files that exist already.
    #[arg(long)]
    dataset: Option<PathBuf>,
    /// The files stay.
    #[arg(long)]
    keep: bool,
    /// The page cache is emptied of the files before each round.
    #[arg(long)]
    evict: bool,
    /// Times that files are read.
    #[arg(long)]
    epochs: Option<u32>,
    /// Samples of a step.
    #[arg(long)]
    batch_size: Option<u64>,
    /// Seconds of computing in a step.
    #[arg(long)]
    compute: Option<f64>,
    /// Readers of each accelerator.
    #[arg(long)]
    read_threads: Option<usize>,
    /// Samples in a file.
    #[arg(long)]
    samples_per_file: Option<u64>,
    /// Mean bytes of a sample.
    #[arg(long)]
    record_bytes: Option<u64>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn settings(&self) -> MlSettings {
        MlSettings {
            gpu: self.gpu,
            accelerators: self.accelerators,
            dataset_bytes: self.dataset_size,
            dataset: self.dataset.clone(),
            keep: self.keep,
            evict: self.evict,
            overrides: Overrides {
                epochs: self.epochs,
                batch_size: self.batch_size,
                compute: self.compute.map(Duration::from_secs_f64),
                read_threads: self.read_threads,
                samples_per_file: self.samples_per_file,
                record_bytes: self.record_bytes,
            },
            ..MlSettings::new(self.workload)
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match ml::run(&arguments.dir, &arguments.settings(), &Silent, &AtomicBool::new(false)) {
        Ok(report) if arguments.json => println!("{}", serde_json::to_string_pretty(&report).expect("a report becomes JSON")),
        Ok(report) => print!("{report}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
