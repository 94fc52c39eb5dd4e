//! The daemon's log: a file that is appended to, rotated at the start when it has grown, and shown when a daemon dies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// A log larger than this is put aside when a daemon starts, replacing the one put aside before.
const ROTATE_BYTES: u64 = 16 << 20;
/// As much of a log's end is looked at for its last lines.
const TAIL_BYTES: u64 = 8 << 10;

/// Opens a log for appending, rotating it first if it has grown too large. Makes its directory.
pub(crate) fn open(path: &Path) -> Result<File, LogError> {
    open_rotated(path, ROTATE_BYTES).map_err(|source| LogError { path: path.to_path_buf(), source })
}

/// A log that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("log '{}' cannot be written: {source}; name another file with --log", path.display())]
pub(crate) struct LogError {
    path: PathBuf,
    /// The system's answer.
    pub(crate) source: std::io::Error,
}

fn open_rotated(path: &Path, limit: u64) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > limit) {
        std::fs::rename(path, rotated(path))?;
    }
    File::options().create(true).append(true).open(path)
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Where log lines go.
pub(crate) enum Sink {
    /// Standard error: a person's terminal, or the log file that the daemon was started with.
    Stderr,
    /// A file.
    File(File),
}

/// Starts logging: warnings and Forebay's own news, or with `verbose` its details; `FOREBAY_LOG` (in the form of `RUST_LOG`)
/// says otherwise. Call once.
pub(crate) fn start(sink: Sink, verbose: bool) {
    let default = if verbose {
        "info,s3s=off,forebay=debug,forebay_daemon=debug,forebay_fuse=debug"
    } else {
        "warn,s3s=off,forebay=info,forebay_daemon=info,forebay_fuse=info"
    };
    let filter = std::env::var("FOREBAY_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let builder = tracing_subscriber::fmt().with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(default)));
    match sink {
        Sink::Stderr => {
            use std::io::IsTerminal;
            builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
        }
        Sink::File(file) => builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init(),
    }
}

/// How long a log is now; what is written later is the next daemon's.
pub(crate) fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The last lines of a log that were written after it had `from` bytes, at most `count`.
pub(crate) fn last_lines(path: &Path, from: u64, count: usize) -> Vec<String> {
    let end = read_end(path, from).unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

fn read_end(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let from = from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_grown_log_is_put_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/forebay.log");
        for (text, before, aside) in [("first", "", None), ("second", "first", None), ("3", "", Some("firstsecond"))] {
            let mut file = open_rotated(&path, 10).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
            assert_eq!(std::fs::read_to_string(rotated(&path)).ok().as_deref(), aside);
            write!(file, "{text}").unwrap();
        }
    }

    #[test]
    fn a_log_below_a_file_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = open(&file.path().join("log")).unwrap_err().to_string();
        assert!(
            message.contains("/log' cannot be written: ") && message.ends_with("; name another file with --log"),
            "{message}"
        );
    }

    #[test]
    fn the_last_lines_are_this_daemons() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let from = len(&path);
        let mut file = open(&path).unwrap();
        writeln!(file, "a\n\nb\nc").unwrap();
        assert_eq!(last_lines(&path, from, 2), ["b", "c"]);
        assert_eq!(last_lines(&path, from, 9), ["a", "b", "c"]);
        assert!(last_lines(&dir.path().join("none"), 0, 9).is_empty());
    }
}
