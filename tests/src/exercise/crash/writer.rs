//! The writer: random operations, each written down before it starts and after it was acknowledged.

use super::Plan;
use super::log::{FileId, Names, Operation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why the writer ended before its plan did.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The file system under test refused an operation, which is also in the log.
    #[error("operation {number}, {operation}: {source}")]
    Refused {
        /// Which one.
        number: u64,
        /// In words.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
    /// The log could not be written.
    #[error("the log: {0}")]
    Log(#[source] std::io::Error),
}

/// A writer on an empty directory.
pub struct Writer {
    dir: PathBuf,
    log: File,
    plan: Plan,
    rng: StdRng,
    names: Names,
    sizes: BTreeMap<FileId, u64>,
    next_file: FileId,
}

impl Writer {
    /// A writer whose log, outside of the file system under test, is new. A line counts once it is in the kernel's page
    /// cache: that outlives every process, and a machine that goes down is not what is tested.
    pub fn new(dir: &Path, log: &Path, plan: &Plan) -> std::io::Result<Writer> {
        let mut log = OpenOptions::new().append(true).create_new(true).open(log)?;
        log.write_all(format!("seed {}\n", plan.seed).as_bytes())?;
        Ok(Writer {
            dir: dir.to_path_buf(),
            log,
            plan: *plan,
            rng: StdRng::seed_from_u64(plan.seed),
            names: Names::new(),
            sizes: BTreeMap::new(),
            next_file: 0,
        })
    }

    /// Does what the plan says, or ends at the first operation that fails.
    pub fn run(&mut self) -> Result<(), Ended> {
        for number in 0..self.plan.operations {
            let operation = self.choose();
            self.note(format!("start {number} {operation}\n"))?;
            if let Err(source) = self.perform(&operation, number) {
                self.note(format!("failed {number} {source}\n").replace('\n', " ") + "\n")?;
                return Err(Ended::Refused { number, operation: operation.to_string(), source });
            }
            self.note(format!("done {number}\n"))?;
            self.remember(&operation);
        }
        Ok(())
    }

    /// One `write` per line, so that a kill leaves no half of one.
    fn note(&mut self, line: String) -> Result<(), Ended> {
        self.log.write_all(line.as_bytes()).map_err(Ended::Log)
    }

    fn perform(&self, operation: &Operation, number: u64) -> std::io::Result<()> {
        let at = |path: &str| self.dir.join(path);
        match operation {
            Operation::Create { path, .. } => OpenOptions::new().write(true).create_new(true).open(at(path)).map(drop),
            Operation::Append { path, .. } => {
                let (_, bytes) = operation.written(self.plan.seed, number).unwrap_or_default();
                OpenOptions::new().append(true).open(at(path))?.write_all(&bytes)
            }
            Operation::Overwrite { path, .. } => {
                let (offset, bytes) = operation.written(self.plan.seed, number).unwrap_or_default();
                OpenOptions::new().write(true).open(at(path))?.write_all_at(&bytes, offset)
            }
            Operation::Truncate { path, size, .. } => OpenOptions::new().write(true).open(at(path))?.set_len(*size),
            Operation::Sync { path, .. } => OpenOptions::new().write(true).open(at(path))?.sync_all(),
            Operation::SyncDirectory { path } => File::open(at(path))?.sync_all(),
            Operation::Rename { from, to } => std::fs::rename(at(from), at(to)),
            Operation::Unlink { path } => std::fs::remove_file(at(path)),
            Operation::MakeDirectory { path } => std::fs::create_dir(at(path)),
        }
    }

    fn remember(&mut self, operation: &Operation) {
        operation.change_names(&mut self.names);
        match operation {
            Operation::Create { file, .. } => {
                self.next_file = file + 1;
                self.sizes.insert(*file, 0);
            }
            Operation::Append { file, offset, length, .. } | Operation::Overwrite { file, offset, length, .. } => {
                let size = self.sizes.entry(*file).or_default();
                *size = (*size).max(offset + length);
            }
            Operation::Truncate { file, size, .. } => drop(self.sizes.insert(*file, *size)),
            _ => {}
        }
    }

    fn choose(&mut self) -> Operation {
        if let Some((path, file)) = self.any_file() {
            match self.rng.random_range(0..100) {
                0..25 => return self.append(file, path),
                25..40 => return self.overwrite(file, path),
                40..45 => {
                    let size = self.rng.random_range(0..=self.sizes[&file] + 5000);
                    return Operation::Truncate { file, path, size: size.min(self.plan.max_file_bytes) };
                }
                45..60 => return Operation::Sync { file, path },
                60..65 => return Operation::SyncDirectory { path: self.directory() },
                65..78 => {
                    let to = self.free_or_taken();
                    return if to == path { Operation::Sync { file, path } } else { Operation::Rename { from: path, to } };
                }
                78..84 => return Operation::Unlink { path },
                _ => {}
            }
        }
        let path = self.free_or_taken();
        match self.names.get(&path) {
            Some(Some(file)) => self.append(*file, path),
            _ if self.rng.random_range(0..8) == 0 => self.make_directory(path),
            _ => Operation::Create { file: self.next_file, path },
        }
    }

    /// A directory that is not there yet; a file once all are.
    fn make_directory(&mut self, path: String) -> Operation {
        let directories = (0..3).map(|number| format!("d{number}"));
        let missing = directories.into_iter().find(|directory| !self.names.contains_key(directory));
        missing.map_or(Operation::Create { file: self.next_file, path }, |path| Operation::MakeDirectory { path })
    }

    fn append(&mut self, file: FileId, path: String) -> Operation {
        let offset = self.sizes[&file];
        let length = self.length();
        if offset + length > self.plan.max_file_bytes {
            return Operation::Truncate { file, path, size: offset / 3 };
        }
        Operation::Append { file, path, offset, length }
    }

    fn overwrite(&mut self, file: FileId, path: String) -> Operation {
        let offset = self.rng.random_range(0..=self.sizes[&file]);
        let length = self.length().min(self.plan.max_file_bytes - offset);
        if length == 0 { Operation::Sync { file, path } } else { Operation::Overwrite { file, path, offset, length } }
    }

    fn length(&mut self) -> u64 {
        let most = [300, 5000, 70_000][self.rng.random_range(0..3)];
        self.rng.random_range(1..most)
    }

    fn any_file(&mut self) -> Option<(String, FileId)> {
        let files: Vec<_> = self.names.iter().filter_map(|(path, entry)| Some((path, (*entry)?))).collect();
        let (path, file) = files.get(self.rng.random_range(0..files.len().max(1)))?;
        Some(((*path).clone(), *file))
    }

    /// `.` or a directory that is there.
    fn directory(&mut self) -> String {
        let directories: Vec<&String> = self.names.iter().filter(|(_, entry)| entry.is_none()).map(|(path, _)| path).collect();
        let number = self.rng.random_range(0..=directories.len());
        directories.get(number).map_or(".".to_owned(), |path| (*path).clone())
    }

    /// A file's path, in a directory that is there.
    fn free_or_taken(&mut self) -> String {
        let name = format!("f{}", self.rng.random_range(0..8));
        match self.directory().as_str() {
            "." => name,
            directory => format!("{directory}/{name}"),
        }
    }
}
