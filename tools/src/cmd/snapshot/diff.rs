//! `forebay snapshot diff`: a line for each difference, as they come.

use crate::cli::WhichMount;
use crate::error::CliError;
use crate::places;
use forebay_daemon::control::diff::{Change, DiffEntry, Kind};
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

pub(super) fn run(name: &OsStr, other: Option<&OsStr>, of: &WhichMount, json: bool) -> Result<(), CliError> {
    let client = places::daemon_of_maybe(of.mount.as_deref())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut failure = None;
    let mut show = |entry: DiffEntry| {
        let line = if json { serde_json::to_string(&entry) } else { Ok(line(&entry)) };
        // A reader that went away (`| head`) is no failure of ours.
        match line.map(|line| writeln!(out, "{line}")) {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(_)) => ControlFlow::Break(()),
            Err(error) => {
                failure = Some(CliError::failed(error));
                ControlFlow::Break(())
            }
        }
    };
    client.diff_snapshots(name.as_bytes(), other.map(OsStr::as_bytes), &mut show).map_err(CliError::failed)?;
    let _ = out.flush();
    failure.map_or(Ok(()), Err)
}

/// A difference, as `zfs diff` shows them; directories end in a slash.
fn line(entry: &DiffEntry) -> String {
    let slash = if entry.kind == Kind::Directory { "/" } else { "" };
    let path = &entry.path;
    match (entry.change, &entry.from) {
        (Change::Renamed, from) => format!("R {}{slash} -> {path}{slash}", from.as_deref().unwrap_or("?")),
        (Change::Added, _) => format!("+ {path}{slash}"),
        (Change::Removed, _) => format!("- {path}{slash}"),
        (Change::Changed, _) => format!("M {path}{slash}"),
        (Change::Metadata, _) => format!("m {path}{slash}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_and_where() {
        let entry = |change, kind, from: Option<&str>| DiffEntry { change, kind, path: "a/b".into(), from: from.map(Into::into) };
        assert_eq!(line(&entry(Change::Added, Kind::Directory, None)), "+ a/b/");
        assert_eq!(line(&entry(Change::Removed, Kind::File, None)), "- a/b");
        assert_eq!(line(&entry(Change::Renamed, Kind::Directory, Some("c"))), "R c/ -> a/b/");
        assert_eq!(line(&entry(Change::Changed, Kind::Symlink, None)), "M a/b");
        assert_eq!(line(&entry(Change::Metadata, Kind::Special, None)), "m a/b");
    }
}
