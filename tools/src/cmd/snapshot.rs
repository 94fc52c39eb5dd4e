//! `forebay snapshot create|list|show|delete|diff|digest`: trees as they were, also to be seen below `.snapshots` in the root of the mount.

mod diff;
mod digest;

use crate::cli::SnapshotCommand;
use crate::error::CliError;
use crate::places;
use crate::table;
use forebay_daemon::control::snapshot::{SnapshotInfo, SnapshotOrder};
use forebay_daemon::control::task::encode_path;
use std::os::unix::ffi::OsStrExt;

pub(super) fn run(command: &SnapshotCommand, json: bool) -> Result<(), CliError> {
    match command {
        SnapshotCommand::Create { name, path, of } => {
            let (client, below) = match path {
                Some(path) => places::daemon_of(path)?,
                None => (places::daemon_of_maybe(of.mount.as_deref())?, Vec::new()),
            };
            let order = SnapshotOrder { name: encode_path(name.as_bytes()), path: encode_path(&below) };
            shown(&client.take_snapshot(&order).map_err(CliError::failed)?, json)
        }
        SnapshotCommand::List(of) => {
            let all = places::daemon_of_maybe(of.mount.as_deref())?.snapshots().map_err(CliError::failed)?;
            if json {
                return super::print_json(&all);
            }
            super::print(&table::snapshots(&all));
            Ok(())
        }
        SnapshotCommand::Show { name, of } => {
            let client = places::daemon_of_maybe(of.mount.as_deref())?;
            shown(&client.snapshot(name.as_bytes()).map_err(CliError::failed)?, json)
        }
        SnapshotCommand::Delete { name, of } => {
            let client = places::daemon_of_maybe(of.mount.as_deref())?;
            let gone = client.delete_snapshot(name.as_bytes()).map_err(CliError::failed)?;
            if json {
                return super::print_json(&gone);
            }
            super::print(&format!("{} is deleted; what only it had is freed in the background", gone.name));
            Ok(())
        }
        SnapshotCommand::Diff { name, other, of } => diff::run(name, other.as_deref(), of, json),
        SnapshotCommand::Digest(digest) => digest::run(digest, json),
    }
}

fn shown(info: &SnapshotInfo, json: bool) -> Result<(), CliError> {
    if json {
        return super::print_json(info);
    }
    super::print(&table::snapshot(info));
    Ok(())
}
