//! Completion reports, as FSx for Lustre writes them: `FilePath,FileStatus,ErrorCode`, failed files only, no line with the names of the
//! fields; in `task-N/report.csv` of an import task and `task-N/failures.csv` of any other.
//!
//! While a task runs, its report grows in a spool file beside the cache, never in memory. At the end it is copied to its place (`place`) and
//! gets its name there when it is whole and durable; until then the spool file stays.

use super::{ErrorCode, TaskError, TaskKind};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What paths begin with that spreadsheets take for formulas.
const FORMULA_STARTS: &[u8] = b"@+-=";

/// One line of a report.
pub(super) fn line(path: &[u8], code: ErrorCode) -> Vec<u8> {
    let mut line = field(path);
    line.extend_from_slice(b",failed,");
    line.extend_from_slice(code.name().as_bytes());
    line.push(b'\n');
    line
}

/// A path as a field: `@x` becomes `"""@x"""`, `a,b` becomes `"a,b"`, `a"b` becomes `"a""b"`.
fn field(path: &[u8]) -> Vec<u8> {
    let is_formula = path.first().is_some_and(|first| FORMULA_STARTS.contains(first));
    let text = if is_formula { [b"\"", path, b"\""].concat() } else { path.to_vec() };
    if !text.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r')) {
        return text;
    }
    let mut quoted = vec![b'"'];
    for byte in text {
        if byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

/// The name of a report.
pub(super) fn name_of(kind: TaskKind) -> &'static str {
    if kind == TaskKind::Import { "report.csv" } else { "failures.csv" }
}

/// The report's file in its directory.
pub(super) fn file_of(directory: &Path, id: u64, kind: TaskKind) -> PathBuf {
    directory.join(format!("task-{id}")).join(name_of(kind))
}

/// The spool file of a task.
pub(super) fn spool_of(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("task-{id}.csv"))
}

/// Checks a directory that a report is to go to, before the task begins.
pub(super) fn check(path: &Path) -> Result<(), TaskError> {
    if !path.is_absolute() {
        let shown = path.display();
        return Err(TaskError::Invalid(format!("--report {shown}: the daemon needs the whole path, from / on")));
    }
    fs::create_dir_all(path).map_err(|source| TaskError::Report { path: path.to_owned(), source })
}

/// A report that grows.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Spool {
    /// Opens a task's spool file. What is in it beyond `bytes` is of work that will be done again.
    pub(super) fn open(dir: &Path, id: u64, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = spool_of(dir, id);
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        // Lines that a power cut took are missing in the report; nothing in it is ever wrong.
        let bytes = bytes.min(file.metadata()?.len());
        file.set_len(bytes)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Spool { path, file, bytes })
    }

    /// Adds lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it: the report is where it was to go.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the report in its place, whole or not at all, and removes the spool file.
    pub(super) fn publish(self, target: &Path) -> io::Result<()> {
        let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(parent)?;
        let partial = target.with_extension("partial");
        let mut copy = File::create(&partial)?;
        io::copy(&mut File::open(&self.path)?, &mut copy)?;
        copy.sync_all()?;
        fs::rename(&partial, target)?;
        File::open(parent)?.sync_all()?;
        fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_fsx_documents_it() {
        for (path, expected) in [
            ("plain", "plain"),
            ("@filename.txt", r#""""@filename.txt""""#),
            ("+filename.txt", r#""""+filename.txt""""#),
            ("file,name.txt", r#""file,name.txt""#),
            ("file\"name.txt", r#""file""name.txt""#),
            ("two\nlines", "\"two\nlines\""),
            ("a-b", "a-b"),
        ] {
            assert_eq!(String::from_utf8(field(path.as_bytes())).unwrap(), expected);
        }
        assert_eq!(line(b"dir/f", ErrorCode::S3AccessDenied), b"dir/f,failed,S3AccessDenied\n");
        assert_eq!(line(b"\xff", ErrorCode::InternalError), b"\xff,failed,InternalError\n", "names are bytes");
    }

    #[test]
    fn a_spool_goes_on_where_it_counted_and_is_published_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (spools, reports) = (dir.path().join("tasks"), dir.path().join("reports"));
        let mut spool = Spool::open(&spools, 7, 0).unwrap();
        spool.append(b"one\n").unwrap();
        let counted = spool.bytes();
        spool.append(b"again\n").unwrap();
        drop(spool);
        let mut spool = Spool::open(&spools, 7, counted).unwrap();
        spool.append(b"two\n").unwrap();
        let target = file_of(&reports, 7, TaskKind::Import);
        assert_eq!(target, reports.join("task-7/report.csv"));
        spool.publish(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read_dir(&spools).unwrap().count(), 0);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing but the report");
    }

    #[test]
    fn a_report_that_cannot_be_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for (directory, words) in [(Path::new("reports"), "the whole path"), (file.as_path(), "report in")] {
            let error = check(directory).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
