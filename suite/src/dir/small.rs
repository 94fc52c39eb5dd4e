//! Many small files: made and synced one by one, read, asked for their attributes, deleted. Opening and closing is part of each.

use super::Directory;
use super::file::{self, Access, Opened};
use super::pages::About;
use crate::data::Source;
use crate::error::{At, Result};
use crate::meter::{Act, Worker};
use crate::order::Order;
use crate::plan::Group;
use crate::row::{Recorder, RowId, State, Unit};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    let home = dir.subdirectory("small")?;
    let (threads, bytes) = (dir.plan.threads, dir.plan.file_bytes);
    let id = |what, block_bytes, state| RowId { group: Group::Small, what, block_bytes, threads, state, unit: Unit::Files };
    let names: Vec<PathBuf> = (0..dir.plan.files).map(|n| home.join(format!("file-{n:07}"))).collect();
    let sources: Vec<Source> = (0..threads).map(|_| dir.source(bytes as usize)).collect();
    dir.plain_row(to, id("create", Some(bytes), State::Made), "buffered, fsync of each file", || {
        let maker = |(names, source)| Maker { names, source, bytes: bytes as usize };
        Ok(shares(&names, threads).into_iter().zip(sources).map(maker).collect())
    })?;
    // Where the time was up before all were made, what is there counts.
    let files = shuffled(names.into_iter().filter(|name| name.exists()).collect(), dir.next_seed());

    let about = About::names(&files);
    let reader = |again: bool| move |names| Reader { names: Names { names, at: 0, again }, buffer: vec![0; bytes as usize + 1] };
    let readers = |again: bool| Ok(shares(&files, threads).into_iter().map(reader(again)).collect::<Vec<_>>());
    dir.device_row(to, id("read", Some(bytes), State::Device), about, Access::Buffered, || readers(false))?;
    dir.memory_row(to, id("read", Some(bytes), State::Memory), &files, || readers(true))?;
    dir.stat_rows(to, &files, threads, |state| id("stat", None, state))?;
    dir.plain_row(to, id("delete", None, State::Made), "unlink", || Ok(deleters(&files, threads)))?;
    file::remove_directory(&home)
}

impl Directory {
    /// Attributes of many names, from the device and from memory.
    pub(super) fn stat_rows(
        &self,
        to: &mut Recorder<'_>,
        names: &[PathBuf],
        threads: usize,
        id: impl Fn(State) -> RowId,
    ) -> Result<()> {
        let stats =
            |again| Ok(shares(names, threads).into_iter().map(|names| Stat(Names { names, at: 0, again })).collect::<Vec<_>>());
        if self.pages.drops_names() {
            self.device_row(to, id(State::Device), About::names(names), Access::Buffered, || stats(false))?;
        } else {
            to.skip(id(State::Device), NAMES_STAY);
        }
        self.plain_row(to, id(State::Memory), "names known to the kernel", || {
            names.iter().try_for_each(|name| name.symlink_metadata().at("look at", name).map(drop))?;
            stats(true)
        })?;
        Ok(())
    }
}

/// Why what names cost on the device is not measured.
pub(super) const NAMES_STAY: &str =
    "names and inodes stay in the kernel's memory: dropping them takes root and '--drop-caches machine'";

/// Splits names among threads; every thread gets some as long as there are enough.
pub(super) fn shares(names: &[PathBuf], threads: usize) -> Vec<Vec<PathBuf>> {
    let share = |n: usize| names.iter().skip(n).step_by(threads).cloned().collect();
    (0..threads.min(names.len()).max(1)).map(share).collect()
}

/// The same names in another order: one that follows from no directory's.
pub(super) fn shuffled(names: Vec<PathBuf>, seed: u64) -> Vec<PathBuf> {
    if names.is_empty() {
        return names;
    }
    let order = Order::new(names.len() as u64, seed);
    (0..order.count()).map(|place| names[order.at(place) as usize].clone()).collect()
}

/// One after the other, once or again and again.
struct Names {
    names: Vec<PathBuf>,
    at: usize,
    again: bool,
}

impl Names {
    fn has_more(&self) -> bool {
        self.at < self.names.len() || (self.again && !self.names.is_empty())
    }

    fn next(&mut self) -> &PathBuf {
        let at = self.at % self.names.len();
        self.at += 1;
        &self.names[at]
    }
}

struct Maker {
    names: Vec<PathBuf>,
    source: Source,
    bytes: usize,
}

impl Worker for Maker {
    fn ready(&mut self) -> Result<bool> {
        self.source.advance(self.bytes);
        Ok(!self.names.is_empty())
    }

    fn act(&mut self) -> Result<Act> {
        let path = self.names.pop().expect("ready said that there is one");
        let file = Opened::create(&path, Access::Buffered)?;
        file.write_at(self.source.piece(), 0)?;
        file.sync()?;
        Ok(Act::moved(self.bytes))
    }
}

struct Reader {
    names: Names,
    buffer: Vec<u8>,
}

impl Worker for Reader {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.names.has_more())
    }

    fn act(&mut self) -> Result<Act> {
        let path = self.names.next();
        let mut file = File::open(path).at("open", path)?;
        let mut bytes = 0;
        loop {
            match file.read(&mut self.buffer).at("read", path)? {
                0 => return Ok(Act::moved(bytes)),
                read => bytes += read,
            }
        }
    }
}

struct Stat(Names);

impl Worker for Stat {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.0.has_more())
    }

    fn act(&mut self) -> Result<Act> {
        let path = self.0.next();
        path.symlink_metadata().at("look at", path)?;
        Ok(Act::done())
    }
}

/// Workers that remove files.
pub(super) fn deleters(files: &[PathBuf], threads: usize) -> Vec<impl Worker + use<>> {
    each(files, threads, |path| std::fs::remove_file(path).at("remove", path))
}

/// Workers that do something once to each of their names.
pub(super) fn each(names: &[PathBuf], threads: usize, act: fn(&PathBuf) -> Result<()>) -> Vec<impl Worker + use<>> {
    shares(names, threads).into_iter().map(|names| Each { names: Names { names, at: 0, again: false }, act }).collect()
}

struct Each {
    names: Names,
    act: fn(&PathBuf) -> Result<()>,
}

impl Worker for Each {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.names.has_more())
    }

    fn act(&mut self) -> Result<Act> {
        (self.act)(self.names.next())?;
        Ok(Act::done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<PathBuf> {
        (0..count).map(|n| PathBuf::from(format!("{n:03}"))).collect()
    }

    #[test]
    fn every_name_is_in_one_share() {
        let parts = shares(&names(7), 3);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 2]);
        let mut all = parts.concat();
        all.sort();
        assert_eq!(all, names(7));
        assert_eq!(shares(&names(2), 5).len(), 2);
        assert_eq!(shares(&[], 5), [Vec::<PathBuf>::new()], "a worker with nothing to do, so that a row has one");
    }

    #[test]
    fn shuffling_keeps_every_name() {
        let mut mixed = shuffled(names(100), 1);
        assert_ne!(mixed, names(100));
        mixed.sort();
        assert_eq!(mixed, names(100));
        assert!(shuffled(Vec::new(), 1).is_empty());
    }

    #[test]
    fn names_end_or_begin_again() {
        let mut once = Names { names: names(2), at: 0, again: false };
        (0..2).for_each(|_| drop(once.next().clone()));
        assert!(!once.has_more());
        let mut again = Names { again: true, ..once };
        assert!(again.has_more());
        assert_eq!(again.next(), &PathBuf::from("000"));
        assert!(!Names { names: Vec::new(), at: 0, again: true }.has_more());
    }
}
