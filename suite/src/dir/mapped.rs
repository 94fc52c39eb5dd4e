//! A file mapped into memory, as databases and loaders of models read: from front to back, and pages in a random order. Each thread makes a mapping of its own,
//! so that every row begins without page tables.

use super::Directory;
use super::file::{self, Access, Opened};
use super::pages::About;
use super::random::read_file;
use crate::error::{At, Result};
use crate::meter::{Act, Worker};
use crate::order::Order;
use crate::plan::Group;
use crate::row::{Recorder, RowId, State, Unit};
use memmap2::{Advice, Mmap};
use std::path::{Path, PathBuf};

/// What one operation reads of a mapping from front to back.
const PIECE: usize = 1 << 20;
const PAGE: usize = 4096;

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    let files = [read_file(dir, to)?];
    front_to_back(dir, to, &files)?;
    for threads in dir.plan.stream_counts() {
        faults(dir, to, &files, threads)?;
    }
    Ok(())
}

fn front_to_back(dir: &Directory, to: &mut Recorder<'_>, files: &[PathBuf; 1]) -> Result<()> {
    let id = |state| {
        let (group, unit) = (Group::Mapped, Unit::Bytes);
        RowId { group, what: "mapped read", block_bytes: Some(PIECE as u64), threads: 1, state, unit }
    };
    let passes = || Ok(vec![Pass { map: map(&files[0], Advice::Normal)?, at: 0 }]);
    dir.device_row(to, id(State::Device), About::data(files), Access::Buffered, passes)?;
    dir.memory_row(to, id(State::Memory), files, passes)
}

fn faults(dir: &mut Directory, to: &mut Recorder<'_>, files: &[PathBuf; 1], threads: usize) -> Result<()> {
    let id = |state| {
        let (group, unit) = (Group::Mapped, Unit::Operations);
        RowId { group, what: "mapped page fault", block_bytes: Some(PAGE as u64), threads, state, unit }
    };
    let order = Order::new(file::blocks_in(&files[0], PAGE as u64)?, dir.next_seed());
    let touchers = || {
        let step = threads as u64;
        (0..step).map(|place| Ok(Toucher { map: map(&files[0], Advice::Random)?, order, place, step })).collect()
    };
    dir.device_row(to, id(State::Device), About::data(files), Access::Buffered, touchers)?;
    dir.memory_row(to, id(State::Memory), files, touchers)
}

fn map(path: &Path, advice: Advice) -> Result<Mmap> {
    let opened = Opened::read(path, Access::Buffered)?;
    // SAFETY: the file is the bench's own, in a directory that nobody else is told of, and nothing of the bench changes it while it is mapped.
    let map = unsafe { Mmap::map(&opened.file) }.at("map", path)?;
    map.advise(advice).at("advise on the mapping of", path)?;
    Ok(map)
}

struct Pass {
    map: Mmap,
    at: usize,
}

impl Worker for Pass {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.at < self.map.len())
    }

    fn act(&mut self) -> Result<Act> {
        let end = (self.at + PIECE).min(self.map.len());
        let piece = &self.map[self.at..end];
        // Every byte is looked at, in words, as a reader would.
        let (words, _) = piece.as_chunks::<8>();
        std::hint::black_box(words.iter().fold(0, |sum: u64, word| sum ^ u64::from_ne_bytes(*word)));
        let read = piece.len();
        self.at = end;
        Ok(Act::moved(read))
    }
}

struct Toucher {
    map: Mmap,
    order: Order,
    place: u64,
    step: u64,
}

impl Worker for Toucher {
    fn ready(&mut self) -> Result<bool> {
        // Once only: a page that was touched costs nothing any more.
        Ok(self.place < self.order.count())
    }

    fn act(&mut self) -> Result<Act> {
        let at = self.order.at(self.place) as usize * PAGE;
        self.place += self.step;
        std::hint::black_box(self.map[at]);
        Ok(Act::moved(PAGE))
    }
}
