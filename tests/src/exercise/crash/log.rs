//! What the writer did, as it wrote it down: a line before an operation starts, and one after it was acknowledged. The last
//! operation may lack the second line: it was under way when the end came, and may have happened or not.
//!
//! ```text
//! seed 7
//! start 0 create 0 f3
//! done 0
//! start 1 append 0 f3 5000
//! failed 1 ENOTCONN
//! ```

use crate::exercise::content;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A file, whatever its name.
pub type FileId = u64;

/// One operation of the writer. Paths have no white space in them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Create { file: FileId, path: String },
    Append { file: FileId, path: String, offset: u64, length: u64 },
    Overwrite { file: FileId, path: String, offset: u64, length: u64 },
    Truncate { file: FileId, path: String, size: u64 },
    Sync { file: FileId, path: String },
    SyncDirectory { path: String },
    Rename { from: String, to: String },
    Unlink { path: String },
    MakeDirectory { path: String },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Create { file, path } => write!(f, "create {file} {path}"),
            Operation::Append { file, path, offset, length } => write!(f, "append {file} {path} {offset} {length}"),
            Operation::Overwrite { file, path, offset, length } => write!(f, "overwrite {file} {path} {offset} {length}"),
            Operation::Truncate { file, path, size } => write!(f, "truncate {file} {path} {size}"),
            Operation::Sync { file, path } => write!(f, "sync {file} {path}"),
            Operation::SyncDirectory { path } => write!(f, "syncdir {path}"),
            Operation::Rename { from, to } => write!(f, "rename {from} {to}"),
            Operation::Unlink { path } => write!(f, "unlink {path}"),
            Operation::MakeDirectory { path } => write!(f, "mkdir {path}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split(' ').collect();
        let bad = |_| format!("no number in '{line}'");
        let number = |word: &str| word.parse::<u64>().map_err(bad);
        let path = |word: &str| word.to_owned();
        Ok(match words[..] {
            ["create", file, at] => Operation::Create { file: number(file)?, path: path(at) },
            ["append", file, at, offset, length] => {
                Operation::Append { file: number(file)?, path: path(at), offset: number(offset)?, length: number(length)? }
            }
            ["overwrite", file, at, offset, length] => {
                Operation::Overwrite { file: number(file)?, path: path(at), offset: number(offset)?, length: number(length)? }
            }
            ["truncate", file, at, size] => Operation::Truncate { file: number(file)?, path: path(at), size: number(size)? },
            ["sync", file, at] => Operation::Sync { file: number(file)?, path: path(at) },
            ["syncdir", at] => Operation::SyncDirectory { path: path(at) },
            ["rename", from, to] => Operation::Rename { from: path(from), to: path(to) },
            ["unlink", at] => Operation::Unlink { path: path(at) },
            ["mkdir", at] => Operation::MakeDirectory { path: path(at) },
            _ => return Err(format!("no operation: '{line}'")),
        })
    }
}

/// What an entry is: a file, or (none) a directory.
pub type Entry = Option<FileId>;

/// Every name there is, by its path.
pub type Names = BTreeMap<String, Entry>;

impl Operation {
    /// The directory entries it changes, by path.
    pub fn names_changed(&self) -> Vec<&str> {
        match self {
            Operation::Create { path, .. } | Operation::Unlink { path } | Operation::MakeDirectory { path } => vec![path],
            Operation::Rename { from, to } => vec![from, to],
            _ => Vec::new(),
        }
    }

    /// Makes the change to the names.
    pub fn change_names(&self, names: &mut Names) {
        match self {
            Operation::Create { file, path } => drop(names.insert(path.clone(), Some(*file))),
            Operation::MakeDirectory { path } => drop(names.insert(path.clone(), None)),
            Operation::Unlink { path } => drop(names.remove(path)),
            Operation::Rename { from, to } => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
            _ => {}
        }
    }

    /// The file whose content it changes.
    pub fn content_changed(&self) -> Option<FileId> {
        match self {
            Operation::Append { file, .. } | Operation::Overwrite { file, .. } | Operation::Truncate { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// What it writes, and where.
    pub fn written(&self, seed: u64, number: u64) -> Option<(u64, Vec<u8>)> {
        match *self {
            Operation::Append { offset, length, .. } | Operation::Overwrite { offset, length, .. } => {
                Some((offset, content::bytes(seed.rotate_left(40) ^ number, offset, length as usize)))
            }
            _ => None,
        }
    }

    /// Makes the change to the content; of what is written only the first `limit` bytes.
    pub fn change_content(&self, seed: u64, number: u64, limit: usize, content: &mut Vec<u8>) {
        if let Operation::Truncate { size, .. } = self {
            content.resize(*size as usize, 0);
        }
        let Some((offset, bytes)) = self.written(seed, number) else { return };
        let bytes = &bytes[..bytes.len().min(limit)];
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].copy_from_slice(bytes);
    }
}

/// A log, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The writer's seed.
    pub seed: u64,
    /// Operations in their order.
    pub operations: Vec<Operation>,
    /// How many of them were acknowledged: all, or all but the last.
    pub acknowledged: usize,
}

impl Log {
    /// Reads a log; a line without its end was never written as far as the writer knows.
    pub fn read(path: &Path) -> Result<Log, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut log = Log::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            log.line(line)?;
        }
        if log.operations.len() > log.acknowledged + 1 {
            return Err("more than one operation is open".to_owned());
        }
        Ok(log)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').ok_or_else(|| format!("no line of a log: '{line}'"))?;
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let number: u64 = first.parse().map_err(|_| format!("no number in '{line}'"))?;
        match word {
            "seed" => self.seed = number,
            "start" if number as usize == self.operations.len() => self.operations.push(more.parse()?),
            "done" if number as usize == self.acknowledged && self.acknowledged < self.operations.len() => self.acknowledged += 1,
            "failed" => {}
            _ => return Err(format!("out of order: '{line}'")),
        }
        Ok(())
    }
}
