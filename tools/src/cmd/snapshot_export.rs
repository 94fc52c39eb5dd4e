//! `forebay snapshot export`: starts it and shows how it goes. Ctrl-C leaves it alone.

use crate::error::CliError;
use crate::places;
use forebay_daemon::control::publish::{SnapshotExportInfo, SnapshotExportOrder};
use forebay_daemon::control::task::encode_path;
use forebay_daemon::units::ByteCount;
use indicatif::ProgressBar;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Between looks at it.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(name: &OsStr, url: &str, copy: bool, mount: Option<&Path>, json: bool) -> Result<(), CliError> {
    let client = places::daemon_of_maybe(mount)?;
    let order = SnapshotExportOrder { name: encode_path(name.as_bytes()), url: url.to_owned(), copy };
    let mut info = client.export_snapshot(&order).map_err(CliError::failed)?;
    let bar = (!json && std::io::stderr().is_terminal()).then(ProgressBar::new_spinner);
    while !info.has_ended() {
        if let Some(bar) = &bar {
            bar.set_message(amounts(&info));
            bar.tick();
        }
        std::thread::sleep(LOOK);
        info = client.snapshot_export(info.id).map_err(CliError::failed)?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    told(&info, json)
}

fn told(info: &SnapshotExportInfo, json: bool) -> Result<(), CliError> {
    // The last '@' is what the name comes after.
    let mounts = format!("{}@{}", info.url.trim_end_matches('/'), info.name.replace('@', "%40"));
    match (&info.error, json) {
        (Some(_), true) => {
            super::print_json(info)?;
            Err(CliError::Told)
        }
        (Some(error), false) => Err(CliError::words(error.clone())),
        (None, true) => super::print_json(info),
        (None, false) if info.already => {
            super::print(&format!("{} was exported there before: 'forebay mount {mounts} DIR' mounts it", info.name));
            Ok(())
        }
        (None, false) => {
            super::print(&format!("{}; 'forebay mount {mounts} DIR' mounts it", amounts(info)));
            Ok(())
        }
    }
}

fn amounts(info: &SnapshotExportInfo) -> String {
    let mut line = format!("{} names, {} objects sent ({})", info.entries, info.sent, ByteCount(info.sent_bytes));
    for (count, what) in
        [(info.copied, "copied in the bucket"), (info.referenced, "in the bucket already"), (info.kept, "of an earlier export")]
    {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}
