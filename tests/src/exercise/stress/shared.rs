//! The directory where all threads meet. Who comes first is not known, so only this has to hold:
//!
//! 1. Every name that is listed can be looked at, or is gone by then.
//! 2. A file is whole under every name it ever has: it is written under a name of its thread's own, says which file it is
//!    and how long, and is only renamed and linked afterwards.
//! 3. A record that was appended to the log is there once, whole, after the earlier ones of its thread.
//! 4. At rest, a file's link count is the number of its names.

use super::operation::EntryKind;
use super::{Offered, system};
use crate::exercise::content;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

const LOG: &str = "log";
const RECORD: usize = 64;
const HEADER: usize = 16;
/// Names that files are published under.
const PUBLIC: u64 = 24;
/// Directories that come and go.
const DIRECTORIES: u64 = 4;

/// What the directory held at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Files by name, each with its tag.
    files: BTreeMap<String, u64>,
    directories: BTreeMap<String, BTreeSet<String>>,
    records: Vec<u64>,
}

/// Makes the directory.
pub fn prepare(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir)?;
    std::fs::write(dir.join(LOG), b"")
}

/// One thread in the directory.
pub struct Guest {
    dir: PathBuf,
    thread: u64,
    serial: u64,
    /// Records this thread appended.
    pub appended: u64,
}

type Visit = Result<(), String>;

/// Any of these answers is right.
fn any_of(what: &str, result: Result<(), Errno>, allowed: &[Errno]) -> Visit {
    match result {
        Err(error) if !allowed.contains(&error) => Err(format!("shared: {what}: {error}")),
        _ => Ok(()),
    }
}

impl Guest {
    /// A thread, by its number.
    pub fn new(dir: &Path, thread: usize) -> Guest {
        Guest { dir: dir.to_path_buf(), thread: thread as u64, serial: 0, appended: 0 }
    }

    /// One operation.
    pub fn visit(&mut self, rng: &mut StdRng, offered: Offered) -> Visit {
        match rng.random_range(0..20) {
            0..5 => self.publish(rng, offered),
            5..7 => self.append(),
            7..10 => self.read(rng),
            10..12 => self.rename(rng, offered),
            12..14 if offered.links => self.link(rng),
            12..16 => {
                let path = self.public(rng);
                any_of("unlink", rustix::fs::unlink(&path), &[Errno::NOENT])
            }
            16 => self.look_around(),
            _ => self.directory(rng),
        }
    }

    fn public(&self, rng: &mut StdRng) -> PathBuf {
        self.dir.join(format!("f{}", rng.random_range(0..PUBLIC)))
    }

    fn tag(&mut self) -> u64 {
        self.serial += 1;
        (self.thread << 40) | self.serial
    }

    /// Writes a file under a name of this thread's own, and gives it a public one.
    fn publish(&mut self, rng: &mut StdRng, offered: Offered) -> Visit {
        let tag = self.tag();
        let own = self.dir.join(format!("own-{}", self.thread));
        let longest = [100, 9000, 140_000][rng.random_range(0..3)];
        let length = rng.random_range(HEADER..longest);
        std::fs::write(&own, file_of(tag, length)).map_err(|error| format!("shared: write {}: {error}", own.display()))?;
        let public = self.public(rng);
        if !offered.rename_flags || rng.random() {
            return any_of("rename", rustix::fs::rename(&own, &public), &[]);
        }
        match rustix::fs::renameat_with(CWD, &own, CWD, &public, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => any_of("unlink own", rustix::fs::unlink(&own), &[]),
            other => any_of("rename noreplace", other, &[]),
        }
    }

    fn append(&mut self) -> Visit {
        let mut record = [0; RECORD];
        let tag = (self.thread << 40) | self.appended;
        record[..8].copy_from_slice(&tag.to_le_bytes());
        content::fill(tag, 8, &mut record[8..]);
        let written = OpenOptions::new().append(true).open(self.dir.join(LOG)).and_then(|mut log| log.write(&record));
        self.appended += 1;
        match written {
            Ok(RECORD) => Ok(()),
            other => Err(format!("shared: append: {other:?}")),
        }
    }

    fn read(&self, rng: &mut StdRng) -> Visit {
        let path = self.public(rng);
        match std::fs::read(&path) {
            Ok(bytes) => whole(&bytes).map(|_| ()).map_err(|what| format!("shared: {}: {what}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!("shared: read {}: {error}", path.display())),
        }
    }

    fn rename(&self, rng: &mut StdRng, offered: Offered) -> Visit {
        let flags = match rng.random_range(0..3) {
            0 if offered.rename_flags => RenameFlags::EXCHANGE,
            1 if offered.rename_flags => RenameFlags::NOREPLACE,
            _ => RenameFlags::empty(),
        };
        let renamed = rustix::fs::renameat_with(CWD, self.public(rng), CWD, self.public(rng), flags);
        any_of(
            "rename public",
            renamed,
            if flags == RenameFlags::NOREPLACE { &[Errno::NOENT, Errno::EXIST] } else { &[Errno::NOENT] },
        )
    }

    fn link(&self, rng: &mut StdRng) -> Visit {
        let linked = rustix::fs::link(self.public(rng), self.public(rng));
        any_of("link", linked, &[Errno::NOENT, Errno::EXIST])
    }

    fn look_around(&self) -> Visit {
        let listed = match system::list(&self.dir) {
            // A name that is renamed while the listing goes on may come twice, or not at all.
            Err(Errno::NOTUNIQ) => return Ok(()),
            listed => listed.map_err(|error| format!("shared: list: {error}"))?,
        };
        for name in listed.keys() {
            any_of(&format!("stat {name}"), system::stat(&self.dir.join(name)).map(drop), &[Errno::NOENT])?;
        }
        Ok(())
    }

    fn directory(&mut self, rng: &mut StdRng) -> Visit {
        let path = self.dir.join(format!("d{}", rng.random_range(0..DIRECTORIES)));
        let inside = path.join(format!("x{}", rng.random_range(0..3)));
        match rng.random_range(0..4) {
            0 => any_of("mkdir", rustix::fs::mkdir(&path, 0o755.into()), &[Errno::EXIST]),
            1 => any_of("rmdir", rustix::fs::rmdir(&path), &[Errno::NOENT, Errno::NOTEMPTY]),
            2 => {
                let tag = self.tag();
                let own = self.dir.join(format!("own-{}", self.thread));
                std::fs::write(&own, file_of(tag, 64)).map_err(|error| format!("shared: write own: {error}"))?;
                match rustix::fs::rename(&own, &inside) {
                    Err(Errno::NOENT) => any_of("unlink own", rustix::fs::unlink(&own), &[]),
                    other => any_of("rename into a directory", other, &[]),
                }
            }
            _ => any_of("unlink in a directory", rustix::fs::unlink(&inside), &[Errno::NOENT]),
        }
    }
}

/// A file that says which it is, and how long.
fn file_of(tag: u64, length: usize) -> Vec<u8> {
    let mut bytes = content::bytes(tag, 0, length);
    bytes[..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..HEADER].copy_from_slice(&(length as u64).to_le_bytes());
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The tag of a file that is what it says it is.
fn whole(bytes: &[u8]) -> Result<u64, String> {
    let (Some(tag), Some(length)) = (number(bytes, 0), number(bytes, 8)) else {
        return Err(format!("{} bytes are no file of ours", bytes.len()));
    };
    if length != bytes.len() as u64 {
        return Err(format!("the file of tag {tag:#x} is {length} bytes long by its head, and {} in truth", bytes.len()));
    }
    match content::difference(&file_of(tag, bytes.len()), bytes) {
        None => Ok(tag),
        Some(wrong) => Err(format!("tag {tag:#x}: {}", content::describe(wrong, 0, &file_of(tag, bytes.len()), bytes))),
    }
}

/// Looks at the directory at rest, where `appended` records of each thread were acknowledged.
pub fn at_rest(dir: &Path, appended: &[u64]) -> Result<Rest, String> {
    let said = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut rest = Rest { files: BTreeMap::new(), directories: BTreeMap::new(), records: records(dir, appended)? };
    let mut names: BTreeMap<u64, (u64, Vec<PathBuf>)> = BTreeMap::new();
    let mut files = Vec::new();
    for (name, kind) in system::list(dir).map_err(|error| said(dir, &error))? {
        if kind == EntryKind::Directory {
            let inside = system::list(&dir.join(&name)).map_err(|error| said(&dir.join(&name), &error))?;
            files.extend(inside.keys().map(|file| format!("{name}/{file}")));
            rest.directories.insert(name, inside.into_keys().collect());
        } else if name != LOG {
            files.push(name);
        }
    }
    for name in files {
        let path = dir.join(&name);
        let (attributes, inode) = system::stat(&path).map_err(|error| said(&path, &error))?;
        names.entry(inode).or_insert((attributes.links, Vec::new())).1.push(path.clone());
        let bytes = std::fs::read(&path).map_err(|error| said(&path, &error))?;
        rest.files.insert(name, whole(&bytes).map_err(|what| said(&path, &what))?);
    }
    match names.values().find(|(links, names)| *links != names.len() as u64) {
        None => Ok(rest),
        Some((links, names)) => Err(format!("{links} links by stat, but these names: {names:?}")),
    }
}

/// The log's records, after checking that none is torn, lost, doubled or out of its thread's order.
fn records(dir: &Path, appended: &[u64]) -> Result<Vec<u64>, String> {
    let log = std::fs::read(dir.join(LOG)).map_err(|error| format!("the log: {error}"))?;
    let mut next = vec![0; appended.len()];
    let mut tags = Vec::new();
    for (at, record) in log.chunks(RECORD).enumerate() {
        let tag = number(record, 0).unwrap_or(u64::MAX);
        let thread = (tag >> 40) as usize;
        let in_order = next.get(thread) == Some(&(tag & ((1 << 40) - 1)));
        if !in_order || record[8..] != content::bytes(tag, 8, RECORD - 8) {
            return Err(format!("the log's record {at} is not the next one of any thread: {record:02x?}"));
        }
        next[thread] += 1;
        tags.push(tag);
    }
    if next == appended { Ok(tags) } else { Err(format!("the log holds {next:?} records by thread, {appended:?} were appended")) }
}
