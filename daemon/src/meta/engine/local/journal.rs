//! The journal: commits that the tree does not hold yet, in files named after their first commit.
//!
//! A memtable and a file belong together: when one is frozen the next of both begins, and when the tree has taken the memtable
//! in, its file goes. So a replay never reads more than the memtables held.

use crate::format::rows::journal::{JournalRecord, decode_record};
use crate::meta::engine::EngineError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PREFIX: &str = "journal-";
/// Written at once ahead of the records.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Zeros that are enough to go on with.
const AHEAD_LEAST: u64 = 4 << 10;

pub(super) fn failed(error: io::Error) -> EngineError {
    EngineError::Failed { engine: "journal", source: Box::new(error) }
}

/// A journal file.
struct Segment {
    first: u64,
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    /// Up to here the file has bytes of its own; they are zeros beyond `len`.
    written: u64,
}

/// The files of a journal, oldest first; the last one is written.
pub(super) struct Journal {
    dir: PathBuf,
    segments: Vec<Segment>,
    /// A file has begun whose name may not be on the device yet.
    new_names: bool,
}

impl Journal {
    /// Reads what is left of a journal: `replay` gets each commit after `applied`, in order and without gaps. Files that are of
    /// no use any more are removed. Returns the journal and the last commit.
    pub fn recover(dir: &Path, applied: u64, replay: &mut dyn FnMut(JournalRecord<'_>)) -> Result<(Self, u64), EngineError> {
        let mut last = applied;
        let (mut segments, mut removed) = (Vec::new(), false);
        for segment in existing(dir).map_err(failed)? {
            let before = last;
            // A gap: an older file lost its end in a power cut. What follows was never promised.
            if segment.first <= last + 1 {
                last = read_segment(&segment.path, last, replay).map_err(failed)?;
            }
            if last > before {
                segments.push(segment);
            } else {
                std::fs::remove_file(&segment.path).map_err(failed)?;
                removed = true;
            }
        }
        if removed {
            // Before new commits take the numbers that the removed files may hold.
            sync_dir(dir).map_err(failed)?;
        }
        let mut journal = Journal { dir: dir.to_path_buf(), segments, new_names: false };
        journal.begin_segment(last + 1)?;
        Ok((journal, last))
    }

    /// Begins the next file, with commit `first`.
    pub fn begin_segment(&mut self, first: u64) -> Result<(), EngineError> {
        let path = self.dir.join(format!("{PREFIX}{first:016x}"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        self.segments.push(Segment { first, path, file: Arc::new(file), len: 0, written: 0 });
        self.new_names = true;
        Ok(())
    }

    /// Hands a record to the kernel, whole or not at all.
    pub fn append(&mut self, record: &[u8]) -> Result<(), EngineError> {
        let segment = self.segments.last_mut().expect("a journal always has a file to write");
        if let Err(error) = segment.file.write_all_at(record, segment.len) {
            // The next record overwrites what arrived; shortening the file only saves the space.
            let _ = segment.file.set_len(segment.len);
            segment.written = segment.len;
            return Err(failed(error));
        }
        segment.len += record.len() as u64;
        segment.written = segment.written.max(segment.len);
        Ok(())
    }

    /// Before a sync: writes zeros ahead of the records when few are left, so that the syncs of the next records find a file that has its length and
    /// its space, and take half as long.
    pub fn write_ahead(&mut self) {
        let segment = self.segments.last_mut().expect("a journal always has a file to write");
        if segment.written - segment.len >= AHEAD_LEAST {
            return;
        }
        // On a full disk the records themselves will say so.
        if segment.file.write_all_at(&ZEROS[..], segment.written).is_ok() {
            segment.written += ZEROS.len() as u64;
        }
    }

    /// The files, to be synchronised without holding on to the journal, and the directory if it has new names in it.
    pub fn unsynced(&mut self) -> (Vec<Arc<File>>, Option<PathBuf>) {
        let new_names = std::mem::take(&mut self.new_names);
        let files = self.segments.iter().map(|segment| segment.file.clone()).collect();
        (files, new_names.then(|| self.dir.clone()))
    }

    /// Removes files whose commits are all at or below `applied`. One that cannot be removed now is at the next start.
    pub fn forget(&mut self, applied: u64) {
        let needed = self.segments.iter().rposition(|segment| segment.first <= applied + 1).unwrap_or(0);
        for segment in self.segments.drain(..needed) {
            if let Err(error) = std::fs::remove_file(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "an old metadata journal stays behind");
            }
        }
    }
}

#[cfg(test)]
impl Journal {
    /// Puts another file in place of the one that is written.
    pub fn swap_file(&mut self, file: Arc<File>) -> Arc<File> {
        let segment = self.segments.last_mut().expect("a journal always has a file to write");
        std::mem::replace(&mut segment.file, file)
    }
}

/// The files in a directory, oldest first.
fn existing(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let first = name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok());
        if let Some(first) = first {
            let (path, file) = (entry.path(), Arc::new(File::open(entry.path())?));
            found.push(Segment { first, path, file, len: 0, written: 0 });
        }
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// Replays a file's commits after `last`; the last one there was.
fn read_segment(path: &Path, mut last: u64, replay: &mut dyn FnMut(JournalRecord<'_>)) -> io::Result<u64> {
    let bytes = std::fs::read(path)?;
    let mut at = 0;
    while let Ok(record) = decode_record(&bytes[at..]) {
        if record.sequence > last + 1 {
            break;
        }
        at += record.len;
        if record.sequence == last + 1 {
            last = record.sequence;
            replay(record);
        }
    }
    if bytes[at..].iter().any(|byte| *byte != 0) {
        tracing::warn!(path = %path.display(), bytes = bytes.len() - at, "the metadata journal ends in an unfinished commit");
    }
    Ok(last)
}

/// Makes the names of files in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
