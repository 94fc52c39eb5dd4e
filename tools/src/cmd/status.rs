//! `forebay status`: what is mounted and how it does.

use crate::cli::StatusArgs;
use crate::error::CliError;
use crate::places;
use crate::table;
use forebay_daemon::control::Client;
use forebay_daemon::control::types::{HiddenKeys, Status};
use serde::Serialize;

/// Hidden keys listed at most; beyond that the count says how many there are.
const HIDDEN_KEYS: usize = 100_000;

/// A mount with its hidden keys, for `--hidden-keys --json`.
#[derive(Serialize)]
struct WithHidden {
    mountpoint: String,
    #[serde(flatten)]
    hidden: HiddenKeys,
}

pub(super) fn run(args: &StatusArgs, json: bool) -> Result<(), CliError> {
    let mounts = mounts(args)?;
    if args.hidden_keys { hidden_keys(&mounts, json) } else { statuses(mounts, json) }
}

/// The mounts asked for, with their daemons.
fn mounts(args: &StatusArgs) -> Result<Vec<(Client, Status)>, CliError> {
    let dir = places::socket_dir();
    if let Some(mountpoint) = &args.mountpoint {
        let client = Client::of_mountpoint(&dir, &places::mountpoint(mountpoint)?).map_err(CliError::failed)?;
        let status = client.status().map_err(CliError::failed)?;
        return Ok(vec![(client, status)]);
    }
    // A daemon that is just ending is not a failure of the command.
    let clients = Client::all(&dir).map_err(CliError::failed)?;
    let mut mounts: Vec<_> =
        clients.into_iter().filter_map(|client| client.status().ok().map(|status| (client, status))).collect();
    mounts.sort_by(|a, b| a.1.mountpoint.cmp(&b.1.mountpoint));
    Ok(mounts)
}

fn statuses(mounts: Vec<(Client, Status)>, json: bool) -> Result<(), CliError> {
    let statuses: Vec<Status> = mounts.into_iter().map(|(_, status)| status).collect();
    if json {
        return super::print_json(&statuses);
    }
    if statuses.is_empty() {
        super::print("nothing is mounted");
    }
    let tables: Vec<String> = statuses.iter().map(table::status).collect();
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
