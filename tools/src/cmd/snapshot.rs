//! `forebay snapshot create|materialize|list|show|diff|digest|clone|restore|export|delete`: trees as they were, also to be seen below `.snapshots` in the root of the mount.

mod diff;
mod digest;

use super::materialize;
use crate::cli_data::SnapshotCommand;
use crate::error::CliError;
use crate::figures_table;
use crate::places;
use crate::table;
use forebay_daemon::control::figures::SnapshotFiguresInfo;
use forebay_daemon::control::snapshot::{SnapshotInfo, SnapshotOrder};
use forebay_daemon::control::task::encode_path;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

/// A snapshot with what its data takes.
#[derive(Serialize)]
struct WithFigures {
    #[serde(flatten)]
    info: SnapshotInfo,
    data: SnapshotFiguresInfo,
}

pub(super) fn run(command: &SnapshotCommand, json: bool) -> Result<(), CliError> {
    match command {
        SnapshotCommand::Create { name, path, materialize, report, of } => {
            let (client, below) = match path {
                Some(path) => places::daemon_of(path)?,
                None => (places::daemon_of_maybe(of.mount.as_deref())?, Vec::new()),
            };
            let order = SnapshotOrder { name: encode_path(name.as_bytes()), path: encode_path(&below) };
            if *materialize {
                return materialize::create(&client, &order, report.as_deref(), json);
            }
            shown(&client.take_snapshot(&order).map_err(CliError::failed)?, json)
        }
        SnapshotCommand::Materialize { name, report, of } => {
            let client = places::daemon_of_maybe(of.mount.as_deref())?;
            materialize::run(&client, &encode_path(name.as_bytes()), report.as_deref(), json)
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
            let info = client.snapshot(name.as_bytes()).map_err(CliError::failed)?;
            let data = client.snapshot_figures(name.as_bytes()).map_err(CliError::failed)?;
            if json {
                return super::print_json(&WithFigures { info, data });
            }
            super::print(&format!("{}\n{}", table::snapshot(&info), figures_table::of_snapshot(&data)));
            Ok(())
        }
        SnapshotCommand::Clone { name, dest } => {
            let (client, below) = places::daemon_of_new(dest)?;
            let order = SnapshotOrder { name: encode_path(name.as_bytes()), path: encode_path(&below) };
            let of = client.clone_snapshot(&order).map_err(CliError::failed)?;
            if json {
                return super::print_json(&serde_json::json!({ "snapshot": of, "clone": format!("/{}", order.path) }));
            }
            super::print(&format!(
                "{} is a copy of snapshot {}; the rest of its names is entered in the background",
                dest.display(),
                of.name
            ));
            Ok(())
        }
        SnapshotCommand::Restore { name, of } => {
            let client = places::daemon_of_maybe(of.mount.as_deref())?;
            let restored = client.restore_snapshot(name.as_bytes()).map_err(CliError::failed)?;
            if json {
                return super::print_json(&restored);
            }
            super::print(&format!(
                "names put back: {}, removed: {}, contents put back: {}, attributes: {}",
                restored.names, restored.removed, restored.contents, restored.attributes
            ));
            Ok(())
        }
        SnapshotCommand::Export { name, url, copy, of } => {
            super::snapshot_export::run(name, url, *copy, of.mount.as_deref(), json)
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
