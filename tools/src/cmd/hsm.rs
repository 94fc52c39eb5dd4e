//! `forebay hsm …`: states of files, printed as `lfs hsm_*` prints them, and what moves their data.

use crate::cli::{HsmCommand, HsmFlags, HsmTaskArgs, TaskArgs};
use crate::error::CliError;
use crate::{places, task_start};
use forebay_daemon::control::Client;
use forebay_daemon::control::hsm::{HsmInfo, HsmRequest};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(super) fn run(command: &HsmCommand, json: bool) -> Result<(), CliError> {
    match command {
        HsmCommand::State { paths } => each(paths, json, Some(HsmInfo::state_line), |client, below| client.hsm(below)),
        HsmCommand::Action { paths } => each(paths, json, Some(HsmInfo::action_line), |client, below| client.hsm(below)),
        HsmCommand::Archive(args) => start("export", args, json),
        HsmCommand::Restore(args) => start("preload", args, json),
        HsmCommand::Release(args) => start("release", args, json),
        HsmCommand::Set { flags, paths } => {
            let request = HsmRequest { set: names(flags, "hsm set")?, clear: Vec::new() };
            each(paths, json, None, |client, below| client.set_hsm(below, &request))
        }
        HsmCommand::Clear { flags, paths } => {
            let request = HsmRequest { set: Vec::new(), clear: names(flags, "hsm clear")? };
            each(paths, json, None, |client, below| client.set_hsm(below, &request))
        }
    }
}

/// A file with what was found of it.
#[derive(Serialize)]
struct Shown<'a> {
    path: &'a Path,
    #[serde(flatten)]
    info: HsmInfo,
}

/// Asks about each path, and prints a line for each as it comes (or nothing, if there is no `line`), or all as JSON.
fn each<E: std::fmt::Display>(
    paths: &[PathBuf],
    json: bool,
    line: Option<fn(&HsmInfo) -> String>,
    ask: impl Fn(&Client, &[u8]) -> Result<HsmInfo, E>,
) -> Result<(), CliError> {
    let mut all = Vec::new();
    for path in paths {
        let (client, below) = places::daemon_of(path)?;
        let info = ask(&client, &below).map_err(|error| CliError::words(format!("'{}': {error}", path.display())))?;
        match line.filter(|_| !json) {
            Some(line) => super::print(&format!("{}: {}", path.display(), line(&info))),
            None => all.push(Shown { path, info }),
        }
    }
    if json { super::print_json(&all) } else { Ok(()) }
}

/// As lfs does, it returns once the task is made.
fn start(kind: &str, args: &HsmTaskArgs, json: bool) -> Result<(), CliError> {
    let task = TaskArgs { wait: args.wait, detach: !args.wait, report: args.report.clone() };
    task_start::start(kind, &args.paths, [].into(), &task, json)
}

fn names(flags: &HsmFlags, verb: &str) -> Result<Vec<String>, CliError> {
    let all = [
        ("norelease", flags.norelease),
        ("noarchive", flags.noarchive),
        ("lost", flags.lost),
        ("exists", flags.exists),
        ("archived", flags.archived),
        ("dirty", flags.dirty),
    ];
    let names: Vec<String> = all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() {
        return Err(CliError::usage(format!("{verb}: nothing to change; give --norelease, --noarchive or both")));
    }
    Ok(names)
}
