//! `forebay mount`: checks everything that can be checked here, then becomes the daemon (`-f`) or starts it and waits for its word.

use crate::cli::MountArgs;
use crate::daemonize::{self, Ready};
use crate::error::CliError;
use crate::logging::{self, Sink};
use crate::places;
use crate::serve;
use crate::settings::{self, MountPlan};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// What `--json` prints.
#[derive(Serialize)]
struct Mounted<'a> {
    repository: &'a str,
    mountpoint: &'a Path,
    pid: u32,
}

pub(super) fn run(args: &MountArgs, line: &[OsString], json: bool) -> Result<(), CliError> {
    let plan = settings::plan(args, &places::user()?).map_err(|error| CliError::usage(error.to_string()))?;
    if args.foreground { foreground(args, plan) } else { background(plan, line, json) }
}

fn foreground(args: &MountArgs, plan: MountPlan) -> Result<(), CliError> {
    let ready = Ready::begin(args.ready_on_stdout);
    let sink = match (&plan.log, &ready) {
        // The command that started this daemon opened the log as its standard error.
        (Some(log), Ready::Nobody) => Sink::File(logging::open(log).map_err(CliError::failed)?),
        _ => Sink::Stderr,
    };
    logging::start(sink, args.verbose);
    serve::run(plan, ready)
}

fn background(plan: MountPlan, line: &[OsString], json: bool) -> Result<(), CliError> {
    let log = plan.log.clone().expect("a daemon in the background has a log file");
    // Here too, so that the commonest errors come before a log file or a cache directory is made.
    let mountpoint = places::free_mountpoint(&plan.mountpoint)?;
    let log_file = open_log(&plan, &log)?;
    let pid = daemonize::launch(line, &log, log_file)?;
    let repository = &plan.settings.source();
    if json {
        super::print_json(&Mounted { repository, mountpoint: &mountpoint, pid })?;
    } else {
        super::print(&format!("{repository} mounted at {}", mountpoint.display()));
    }
    Ok(())
}

/// Opens the daemon's log. Where that is in the cache directory and fails, it is the cache that is wrong, not the log.
fn open_log(plan: &MountPlan, log: &Path) -> Result<File, CliError> {
    logging::open(log).map_err(|error| match &plan.settings.cache_dirs[0] {
        cache if log.parent() == Some(cache) => CliError::words(format!(
            "cache directory '{}' cannot be written: {}; name another with --cache",
            cache.display(),
            error.source
        )),
        _ => CliError::failed(error),
    })
}
