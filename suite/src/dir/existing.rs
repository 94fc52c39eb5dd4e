//! Data that was there before the bench: read as it was found, which is cold if nobody has read it here, then from the device and from memory. Nothing is
//! written. It is read the way programs do, through the page cache.

use super::Directory;
use super::file::{Access, Opened};
use super::pages::{self, About};
use crate::error::{At, Error, Result};
use crate::meter::{Act, Worker, measure};
use crate::plan::{Group, Plan};
use crate::row::{Recorder, RowId, State, Unit};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is read at a time.
const BLOCK: usize = 1 << 20;
/// How much longer than other rows the first read may take: it can be done once only.
const FIRST_PATIENCE: u32 = 10;

/// A part of a file, and how much of it was read first: later rows read no more than that.
struct Part {
    path: PathBuf,
    offset: u64,
    len: u64,
    read: AtomicU64,
}

/// What there is to read, a list for each thread.
pub(super) struct Existing {
    shares: Vec<Vec<Part>>,
    was_read: bool,
}

impl Existing {
    /// Takes files from a path, in the order of their names, until there is as much as the plan wants.
    pub(super) fn find(path: &Path, plan: &Plan) -> Result<Self> {
        let mut files = Vec::new();
        let mut wanted = plan.size_bytes;
        collect(path, &mut wanted, &mut files)?;
        if files.is_empty() {
            let cause = "has no files with content".to_owned();
            return Err(Error::Place {
                path: path.to_owned(),
                cause,
                way_out: "give --read-from a file, or a directory with files in it",
            });
        }
        Ok(Existing { shares: split(files, plan.threads), was_read: false })
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.shares.iter().flatten().map(|part| part.path.clone()).collect();
        files.sort();
        files.dedup();
        files
    }
}

fn collect(path: &Path, wanted: &mut u64, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    // The path that was given may be a link; what is found below it is not followed.
    let metadata = if files.is_empty() { path.metadata() } else { path.symlink_metadata() }.at("look at", path)?;
    if metadata.is_file() && metadata.len() > 0 && *wanted > 0 {
        let bytes = metadata.len().min(*wanted);
        *wanted -= bytes;
        files.push((path.to_owned(), bytes));
    } else if metadata.is_dir() {
        let entries = std::fs::read_dir(path).at("list", path)?;
        let mut names = entries.map(|entry| Ok(entry.at("list", path)?.path())).collect::<Result<Vec<PathBuf>>>()?;
        names.sort();
        for name in names.into_iter().take_while(|_| *wanted > 0).collect::<Vec<_>>() {
            if *wanted > 0 && !is_a_bench(&name) {
                collect(&name, wanted, files)?;
            }
        }
    }
    Ok(())
}

fn is_a_bench(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(super::place::PREFIX))
}

/// Whole files to each thread by turns; if there are fewer of them than threads, parts of them.
fn split(files: Vec<(PathBuf, u64)>, threads: usize) -> Vec<Vec<Part>> {
    let parts_each = if files.len() < threads { threads.div_ceil(files.len()) as u64 } else { 1 };
    let mut shares: Vec<Vec<Part>> = (0..threads).map(|_| Vec::new()).collect();
    let parts = files.into_iter().flat_map(|(path, bytes)| cut(path, bytes, parts_each));
    for (number, part) in parts.enumerate() {
        shares[number % threads].push(part);
    }
    shares.retain(|share| !share.is_empty());
    shares
}

fn cut(path: PathBuf, bytes: u64, parts: u64) -> impl Iterator<Item = Part> {
    let len = bytes.div_ceil(parts).next_multiple_of(BLOCK as u64);
    let part = move |offset: u64| Part { path: path.clone(), offset, len: len.min(bytes - offset), read: AtomicU64::new(0) };
    (0..bytes).step_by(len as usize).map(part)
}

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    let Some(mut existing) = dir.existing.take() else { return Ok(()) };
    let measured = rows(dir, to, &mut existing);
    dir.existing = Some(existing);
    measured
}

fn rows(dir: &Directory, to: &mut Recorder<'_>, existing: &mut Existing) -> Result<()> {
    let (group, block_bytes, unit) = (Group::Existing, Some(BLOCK as u64), Unit::Bytes);
    let id = |state| RowId { group, what: "read", block_bytes, threads: existing.shares.len(), state, unit };
    let files = existing.files();
    let readers = |first| existing.shares.iter().map(|parts| Reader::new(parts, first)).collect::<Vec<_>>();
    if !existing.was_read {
        let (stop, limit): (_, Duration) = (to.stop(), dir.plan.limit * FIRST_PATIENCE);
        to.row(id(State::Found), || {
            let held = pages::resident(&files).filter(|share| *share > 0.0);
            let held =
                held.map_or(String::new(), |share| format!(", {:.0}% of it was in the kernel's memory already", share * 100.0));
            Ok((measure(readers(true), limit, stop)?, format!("buffered, as it was found{held}")))
        })?;
    }
    dir.device_row(to, id(State::Device), About::data(&files), Access::Buffered, || Ok(readers(false)))?;
    dir.plain_row(to, id(State::Memory), "buffered, read before", || Ok(readers(false)))?;
    existing.was_read = true;
    Ok(())
}

struct Reader<'a> {
    parts: &'a [Part],
    /// Whether this is the read that says how far later ones go.
    first: bool,
    number: usize,
    at: u64,
    open: Option<Opened>,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(parts: &'a [Part], first: bool) -> Self {
        Reader { parts, first, number: 0, at: 0, open: None, buffer: vec![0; BLOCK] }
    }

    fn end(&self, part: &Part) -> u64 {
        if self.first { part.len } else { part.read.load(Ordering::Relaxed) }
    }
}

impl Worker for Reader<'_> {
    fn ready(&mut self) -> Result<bool> {
        while let Some(part) = self.parts.get(self.number) {
            if self.at < self.end(part) {
                return Ok(true);
            }
            (self.number, self.at, self.open) = (self.number + 1, 0, None);
        }
        Ok(false)
    }

    fn act(&mut self) -> Result<Act> {
        let (part, began) = (&self.parts[self.number], Instant::now());
        let is_first = self.open.is_none();
        let file = match self.open.take() {
            Some(file) => file,
            None => Opened::read(&part.path, Access::Buffered)?,
        };
        let wanted = (self.end(part) - self.at).min(BLOCK as u64) as usize;
        let read = file.read_at(&mut self.buffer[..wanted], part.offset + self.at)?;
        self.open = Some(file);
        // A file that became shorter ends here.
        self.at = if read == 0 { part.len } else { self.at + read as u64 };
        if self.first && read > 0 {
            part.read.store(self.at, Ordering::Relaxed);
        }
        let first = is_first.then(|| began.elapsed());
        Ok(Act { count: 1, bytes: read as u64, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tiny;
    use crate::stop::Stop;

    fn read(existing: &Existing, first: bool) -> u64 {
        let readers: Vec<_> = existing.shares.iter().map(|parts| Reader::new(parts, first)).collect();
        measure(readers, Duration::from_secs(60), &Stop::default()).expect("reads").bytes
    }

    #[test]
    fn one_file_is_read_in_parts_and_many_by_turns() {
        let (path, mib) = (PathBuf::from("/x"), 1 << 20);
        let lengths = |files: Vec<(PathBuf, u64)>, threads| -> Vec<Vec<u64>> {
            split(files, threads).iter().map(|share| share.iter().map(|part| part.len).collect()).collect()
        };
        assert_eq!(lengths(vec![(path.clone(), 5 * mib)], 2), [[3 * mib], [2 * mib]]);
        assert_eq!(lengths(vec![(path.clone(), 10)], 2), [[10]]);
        assert_eq!(lengths(vec![(path.clone(), 7), (path.clone(), 8), (path, 9)], 2), [vec![7, 9], vec![8]]);
    }

    #[test]
    fn files_are_found_in_order_up_to_the_size_and_later_reads_read_what_the_first_did() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("b")).expect("makes");
        std::fs::create_dir_all(dir.path().join(".forebay-bench-x")).expect("makes");
        for (name, bytes) in [("a", 600 << 10), ("b/c", 300 << 10), ("b/empty", 0), ("d", 600 << 10), (".forebay-bench-x/y", 9)] {
            std::fs::write(dir.path().join(name), vec![1; bytes]).expect("writes");
        }
        let existing = Existing::find(dir.path(), &tiny()).expect("finds");
        let names: Vec<_> =
            existing.files().iter().map(|path| path.strip_prefix(dir.path()).expect("below").to_owned()).collect();
        assert_eq!(names, ["a", "b/c", "d"].map(PathBuf::from));
        assert_eq!(read(&existing, false), 0, "nothing was read first");
        assert_eq!(read(&existing, true), 1 << 20);
        assert_eq!(read(&existing, false), 1 << 20);
    }

    #[test]
    fn a_path_without_content_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = Existing::find(dir.path(), &tiny()).err().expect("refused").to_string();
        assert!(error.contains("has no files with content; give --read-from"), "{error}");
    }
}
