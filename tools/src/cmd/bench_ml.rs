//! `forebay bench DIR --workload NAME`: what a training job, a model server or a checkpoint does, with emulated accelerators.

use crate::cli_bench::BenchArgs;
use crate::error::CliError;
use crate::settings::nonzero_size;
use forebay_suite::ml::{self, Event, Gpu, MlSettings, Overrides, Progress, Workload};
use forebay_suite::stop::Stop;
use indicatif::ProgressBar;

/// What a person gave, as settings of a run.
///
/// # Errors
/// Names that are none, and options that a workload cannot follow.
pub(super) fn settings(args: &BenchArgs, workload: &str) -> Result<MlSettings, CliError> {
    if let Some(option) = option_of_rows(args) {
        return Err(CliError::usage(format!("{option}: is about the rows of a bench without --workload; leave one of them out")));
    }
    if args.target.to_str().is_some_and(|target| target.contains("://")) {
        let shown = args.target.display();
        return Err(CliError::usage(format!("--workload: '{shown}' is a store; mount it and give a directory of the mount")));
    }
    let names = || Workload::ALL.map(Workload::name).join(", ");
    let known: Workload = workload
        .parse()
        .map_err(|_| CliError::usage(format!("--workload '{workload}': there is no such workload; use {}", names())))?;
    let gpu: Gpu = args.ml.gpu.parse().map_err(CliError::usage)?;
    let usual = MlSettings::new(known);
    let dataset_bytes = match &args.size {
        Some(given) => nonzero_size("--size", given).map_err(|error| CliError::usage(error.to_string()))?.0,
        None => usual.dataset_bytes,
    };
    Ok(MlSettings {
        gpu,
        accelerators: args.ml.accelerators,
        dataset_bytes,
        dataset: args.read_from.as_ref().map(|path| args.target.join(path)),
        keep: args.ml.keep,
        evict: args.drop_caches != "never",
        overrides: Overrides { epochs: args.rounds, ..Overrides::default() },
        ..usual
    })
}

/// An option that only the rows of a bench have.
fn option_of_rows(args: &BenchArgs) -> Option<&'static str> {
    let options = [
        ("--against", args.against.is_some()),
        ("--only", !args.only.is_empty()),
        ("--html", args.html.is_some()),
        ("--quick", args.quick),
        ("--files", args.files.is_some()),
        ("--file-size", args.file_size.is_some()),
        ("--threads", args.threads.is_some()),
        ("--seconds", args.seconds.is_some()),
        ("--block", !args.block.is_empty()),
    ];
    options.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
}

/// Runs it and prints what it measured.
pub(super) fn run(args: &BenchArgs, settings: &MlSettings, stop: &Stop, bar: ProgressBar, json: bool) -> Result<(), CliError> {
    let report = ml::run(&args.target, settings, &Shown(&bar), stop.flag());
    bar.finish_and_clear();
    let report = report.map_err(CliError::failed)?;
    if json {
        return super::print_json(&report);
    }
    super::print(report.to_string().trim_end());
    Ok(())
}

/// A bar on a terminal.
struct Shown<'a>(&'a ProgressBar);

impl Progress for Shown<'_> {
    fn event(&self, event: Event) {
        let (done, of, what) = match event {
            Event::Generated { bytes, of } => (bytes, of, "making files".to_owned()),
            Event::Round { number, of } => (u64::from(number) - 1, u64::from(of), format!("round {number} of {of}")),
        };
        self.0.set_length(of);
        self.0.set_position(done);
        self.0.set_message(what);
    }
}
