//! `forebay status`: what is mounted and how it does; of a path in a mount, how much is at and below it and what that takes.

use crate::cli::StatusArgs;
use crate::error::CliError;
use crate::figures_table;
use crate::places;
use crate::table;
use forebay_daemon::control::figures::FiguresInfo;
use forebay_daemon::control::types::{HiddenKeys, Status};
use forebay_daemon::control::{Client, ClientError};
use serde::Serialize;
use std::path::Path;

/// Hidden keys listed at most; beyond that the count says how many there are.
const HIDDEN_KEYS: usize = 100_000;

/// A mount with its hidden keys, for `--hidden-keys --json`.
#[derive(Serialize)]
struct WithHidden {
    mountpoint: String,
    #[serde(flatten)]
    hidden: HiddenKeys,
}

/// A mount with what its data takes.
#[derive(Serialize)]
struct WithFigures {
    #[serde(flatten)]
    status: Status,
    /// None if the daemon does not tell.
    data: Option<FiguresInfo>,
}

/// What is at and below a path.
#[derive(Serialize)]
struct Below<'a> {
    path: &'a Path,
    #[serde(flatten)]
    data: FiguresInfo,
}

pub(super) fn run(args: &StatusArgs, json: bool) -> Result<(), CliError> {
    let mounts = match &args.path {
        None => all_mounts()?,
        Some(path) => match mount_at(path)? {
            Some(mount) => vec![mount],
            None if args.hidden_keys => {
                return Err(CliError::usage(format!("--hidden-keys is of a whole mount, and '{}' is none", path.display())));
            }
            None => return below(path, json),
        },
    };
    if args.hidden_keys { hidden_keys(&mounts, json) } else { statuses(mounts, json) }
}

fn all_mounts() -> Result<Vec<(Client, Status)>, CliError> {
    let mut mounts = places::daemons()?;
    mounts.sort_by(|a, b| a.1.mountpoint.cmp(&b.1.mountpoint));
    Ok(mounts)
}

/// The mount whose root a path is; `None` if it is a path in one.
fn mount_at(path: &Path) -> Result<Option<(Client, Status)>, CliError> {
    let client = match Client::of_mountpoint(&places::socket_dir(), &places::mountpoint(path)?) {
        Ok(client) => client,
        Err(ClientError::NoDaemon(_)) => return Ok(None),
        Err(error) => return Err(CliError::failed(error)),
    };
    let status = client.status().map_err(CliError::failed)?;
    Ok(Some((client, status)))
}

fn below(path: &Path, json: bool) -> Result<(), CliError> {
    let (client, below) = places::daemon_of(path)?;
    let data = client.figures_of(&below).map_err(CliError::failed)?;
    if json {
        return super::print_json(&Below { path, data });
    }
    super::print(&figures_table::of_path(&path.display().to_string(), &data));
    Ok(())
}

fn statuses(mounts: Vec<(Client, Status)>, json: bool) -> Result<(), CliError> {
    // A daemon of an earlier version does not tell, and its status is worth showing all the same.
    let with_figures = |(client, status): (Client, Status)| WithFigures { status, data: client.figures().ok() };
    let mounts: Vec<WithFigures> = mounts.into_iter().map(with_figures).collect();
    if json {
        return super::print_json(&mounts);
    }
    if mounts.is_empty() {
        super::print("nothing is mounted");
    }
    let tables: Vec<String> = mounts.iter().map(|mount| table::status(&mount.status, mount.data.as_ref())).collect();
    super::print(&tables.join("\n"));
    Ok(())
}

fn hidden_keys(mounts: &[(Client, Status)], json: bool) -> Result<(), CliError> {
    let mut all = Vec::with_capacity(mounts.len());
    for (client, status) in mounts {
        let hidden = client.hidden_keys(HIDDEN_KEYS).map_err(CliError::failed)?;
        all.push(WithHidden { mountpoint: status.mountpoint.clone(), hidden });
    }
    if json {
        return super::print_json(&all);
    }
    let lists: Vec<String> = all.iter().map(|mount| table::hidden_keys(&mount.mountpoint, &mount.hidden)).collect();
    super::print(&lists.join("\n"));
    Ok(())
}
