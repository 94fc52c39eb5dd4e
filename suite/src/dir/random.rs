//! Blocks of one large file in a random order. From the device each block is read once: what was read before would come from memory where the page
//! cache cannot be passed by. From memory the order begins again until the time is up.

use super::Directory;
use super::file::{self, Access, Opened};
use super::pages::About;
use crate::data::{Aligned, Source};
use crate::error::Result;
use crate::meter::{Act, Worker};
use crate::order::Order;
use crate::plan::{DirectUse, Group};
use crate::row::{Recorder, RowId, State, Unit};
use std::path::{Path, PathBuf};

/// The sizes that databases and packed data sets read in.
const BLOCKS: [u64; 2] = [4 << 10, 64 << 10];
const READ_FILE: &str = "random-read";
const WRITE_FILE: &str = "random-write";

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    let read_file = [read_file(dir, to)?];
    let write_file = dir.laid_out(WRITE_FILE, to)?;
    for block in BLOCKS {
        for threads in dir.plan.stream_counts() {
            reads(dir, to, &read_file, block, threads)?;
            writes(dir, to, &write_file, (block, threads), Synced::AtTheEnd)?;
        }
    }
    writes(dir, to, &write_file, (BLOCKS[0], 1), Synced::Each)
}

/// The file that random reads come from, and mappings too.
pub(super) fn read_file(dir: &mut Directory, to: &Recorder<'_>) -> Result<PathBuf> {
    dir.laid_out(READ_FILE, to)
}

fn id(what: &'static str, block: u64, threads: usize, state: State) -> RowId {
    RowId { group: Group::Random, what, block_bytes: Some(block), threads, state, unit: Unit::Operations }
}

fn reads(dir: &mut Directory, to: &mut Recorder<'_>, files: &[PathBuf; 1], block: u64, threads: usize) -> Result<()> {
    let access = dir.device_access();
    let order = Order::new(file::blocks_in(&files[0], block)?, dir.next_seed());
    let row = |state| id("random read", block, threads, state);
    let once = Steps { order, once: true };
    dir.device_row(to, row(State::Device), About::data(files), access, || readers(&files[0], access, block, threads, once))?;
    let again = Steps { order, once: false };
    dir.memory_row(to, row(State::Memory), files, || readers(&files[0], Access::Buffered, block, threads, again))
}

/// Which blocks are come to: all threads share one order.
#[derive(Clone, Copy)]
struct Steps {
    order: Order,
    once: bool,
}

/// One thread's part of the steps: every so manieth.
struct Share {
    steps: Steps,
    place: u64,
    threads: u64,
}

impl Share {
    fn of(steps: Steps, threads: usize) -> impl Iterator<Item = Share> {
        (0..threads as u64).map(move |place| Share { steps, place, threads: threads as u64 })
    }

    fn has_more(&self) -> bool {
        !self.steps.once || self.place < self.steps.order.count()
    }

    fn next(&mut self) -> u64 {
        let block = self.steps.order.at(self.place);
        self.place += self.threads;
        block
    }
}

fn readers(path: &Path, access: Access, block: u64, threads: usize, steps: Steps) -> Result<Vec<Reader>> {
    let reader = |share| {
        let file = Opened::read(path, access)?;
        if access == Access::Buffered {
            // Refused or not: where it is, the kernel does not read around each block.
            let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::Random);
        }
        Ok(Reader { file, buffer: Aligned::new(block as usize), share })
    };
    Share::of(steps, threads).map(reader).collect()
}

struct Reader {
    file: Opened,
    buffer: Aligned,
    share: Share,
}

impl Worker for Reader {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.share.has_more())
    }

    fn act(&mut self) -> Result<Act> {
        let offset = self.share.next() * self.buffer.len() as u64;
        Ok(Act::moved(self.file.read_at(&mut self.buffer, offset)?))
    }
}

/// When writes are on the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    AtTheEnd,
    Each,
}

fn writes(dir: &mut Directory, to: &mut Recorder<'_>, path: &Path, shape: (u64, usize), synced: Synced) -> Result<()> {
    let (block, threads) = shape;
    let direct = dir.takes_direct && dir.plan.direct != DirectUse::Never;
    let access = if direct { Access::Direct } else { Access::Buffered };
    let order = Order::new(file::blocks_in(path, block)?, dir.next_seed());
    let (what, how) = match synced {
        Synced::AtTheEnd => ("random write", "fsync at the end"),
        Synced::Each => ("random synced write", "fdatasync after each"),
    };
    let sources: Vec<Source> = (0..threads).map(|_| dir.source(block as usize)).collect();
    let how = format!("{}, {how}", access.words());
    dir.plain_row(to, id(what, block, threads, State::Made), &how, || {
        let shares = Share::of(Steps { order, once: false }, threads);
        let writer = |(share, source)| Ok(Writer { file: Opened::write(path, access)?, source, share, block, synced });
        shares.zip(sources).map(writer).collect()
    })?;
    Ok(())
}

struct Writer {
    file: Opened,
    source: Source,
    share: Share,
    block: u64,
    synced: Synced,
}

impl Worker for Writer {
    fn ready(&mut self) -> Result<bool> {
        self.source.advance(self.block as usize);
        Ok(self.share.has_more())
    }

    fn act(&mut self) -> Result<Act> {
        self.file.write_at(self.source.piece(), self.share.next() * self.block)?;
        if self.synced == Synced::Each {
            self.file.sync_data()?;
        }
        Ok(Act::moved(self.block as usize))
    }

    fn finish(&mut self) -> Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_order_and_come_to_each_block_once() {
        let steps = Steps { order: Order::new(10, 3), once: true };
        let mut all: Vec<u64> = Share::of(steps, 3)
            .flat_map(|mut share| std::iter::from_fn(move || share.has_more().then(|| share.next())))
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        let mut endless = Share { steps: Steps { once: false, ..steps }, place: 11, threads: 1 };
        assert!(endless.has_more());
        assert_eq!(endless.next(), steps.order.at(1));
    }
}
