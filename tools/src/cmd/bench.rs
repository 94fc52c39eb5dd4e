//! `forebay bench`: measures directories or stores, shows what it found, and leaves nothing behind.

use crate::bench_plan::{self, What};
use crate::bench_store;
use crate::cli_bench::BenchArgs;
use crate::error::CliError;
use forebay_suite::dir::Directory;
use forebay_suite::plan::Plan;
use forebay_suite::report::{Report, html, table};
use forebay_suite::run::{self, Imprint, Progress, Target};
use forebay_suite::stop::Stop;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Between two drawings of the bar.
const TICK: Duration = Duration::from_millis(200);

pub(super) fn run(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    if let Some(workload) = &args.ml.workload {
        let settings = super::bench_ml::settings(args, workload)?;
        let stop = Stop::default();
        watch_signals(&stop)?;
        return super::bench_ml::run(args, &settings, &stop, bar(), json);
    }
    let whats = bench_plan::targets(args)?;
    let is_store = matches!(whats[0], What::Store(_));
    let plan = bench_plan::plan(args, is_store, random())?;
    args.html.as_deref().map_or(Ok(()), check_page)?;
    let stop = Stop::default();
    watch_signals(&stop)?;
    let own = format!(".forebay-bench-{:012x}", random() >> 16);
    let targets = whats.iter().zip(0..).map(|(what, number)| open(what, number, &own, args, &plan)).collect::<Result<_, _>>()?;
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let imprint = Imprint { version: env!("CARGO_PKG_VERSION").to_owned(), date };
    let bar = bar();
    let report = run::run(targets, &plan, imprint, &stop, &|progress| show(&bar, &progress));
    bar.finish_and_clear();
    let report = report.map_err(CliError::failed)?;
    if json {
        super::print_json(&report)?;
    } else {
        super::print(&table::of(&report));
    }
    args.html.as_deref().map_or(Ok(()), |path| write_page(path, &report))
}

fn open(what: &What, number: u64, own: &str, args: &BenchArgs, plan: &Plan) -> Result<Box<dyn Target>, CliError> {
    match what {
        What::Directory(path) => {
            let target = Directory::open(path, plan, number, args.read_from.as_deref()).map_err(CliError::failed)?;
            Ok(Box::new(target))
        }
        // Numbered: both may be of one bucket.
        What::Store(settings) => Ok(Box::new(bench_store::open(settings, &format!("{own}-{number}"), plan)?)),
    }
}

/// A number that is another in each process.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The first signal asks the bench to end; a second one ends it at once, with what it made.
fn watch_signals(stop: &Stop) -> Result<(), CliError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(CliError::failed)?;
    let stop = stop.clone();
    let watch = move || {
        let mut signals = signals.forever();
        signals.next();
        stop.ask();
        signals.next();
        eprintln!("forebay: ended at once; what the bench made is left, and is called .forebay-bench-…");
        std::process::exit(1);
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(CliError::failed)?;
    Ok(())
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {elapsed}  {msg}").expect("a fixed template");
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
    bar.set_message(progress.what.to_owned());
}

/// Whether a page can be written there, as far as that can be told before the bench.
fn check_page(path: &Path) -> Result<(), CliError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    if path.is_dir() {
        return Err(CliError::usage(format!("--html '{shown}': is a directory; name a file")));
    }
    if !parent.is_dir() {
        return Err(CliError::usage(format!("--html '{shown}': there is no directory '{}'; make it first", parent.display())));
    }
    Ok(())
}

fn write_page(path: &Path, report: &Report) -> Result<(), CliError> {
    std::fs::write(path, html::of(report)).map_err(|error| {
        CliError::words(format!("--html '{}': cannot be written: {error}; the figures above are complete", path.display()))
    })
}
