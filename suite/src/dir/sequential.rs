//! Large files from front to back: written and synced, read from the device, read from memory; one stream and several, each with a file of its own.

use super::Directory;
use super::file::{self, Access, Opened};
use super::pages::About;
use crate::data::{Aligned, Source};
use crate::error::Result;
use crate::meter::{Act, Worker};
use crate::plan::{DirectUse, Group};
use crate::row::{Recorder, RowId, State, Unit};
use std::path::PathBuf;

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    for block in dir.plan.blocks.clone() {
        for streams in dir.plan.stream_counts() {
            streams_of(dir, to, block, streams)?;
        }
    }
    Ok(())
}

fn streams_of(dir: &mut Directory, to: &mut Recorder<'_>, block: u64, streams: usize) -> Result<()> {
    let id = |what, state| {
        let (group, unit) = (Group::Sequential, Unit::Bytes);
        RowId { group, what, block_bytes: Some(block), threads: streams, state, unit }
    };
    let home = dir.subdirectory("sequential")?;
    let files: Vec<PathBuf> = (0..streams).map(|n| home.join(format!("stream-{n}"))).collect();
    // Whole blocks for each stream, all of them together not more than the size.
    let share = (dir.plan.size_bytes / streams as u64 / block).max(1) * block;
    let access = if dir.takes_direct && dir.plan.direct == DirectUse::Always { Access::Direct } else { Access::Buffered };
    let sources: Vec<Source> = files.iter().map(|_| dir.source(block as usize)).collect();
    let how = format!("{}, fsync at the end", access.words());
    dir.plain_row(to, id("write", State::Made), &how, || {
        let writer = |(path, source): (&PathBuf, Source)| {
            Ok(Writer { file: Opened::create(path, access)?, source, at: 0, end: share, block })
        };
        files.iter().zip(sources).map(writer).collect()
    })?;
    let access = dir.device_access();
    dir.device_row(to, id("read", State::Device), About::data(&files), access, || readers(&files, access, block))?;
    dir.memory_row(to, id("read", State::Memory), &files, || readers(&files, Access::Buffered, block))?;
    file::remove_directory(&home)
}

struct Writer {
    file: Opened,
    source: Source,
    at: u64,
    end: u64,
    block: u64,
}

impl Worker for Writer {
    fn ready(&mut self) -> Result<bool> {
        let more = self.at < self.end;
        if more {
            self.source.advance(self.block as usize);
        }
        Ok(more)
    }

    fn act(&mut self) -> Result<Act> {
        self.file.write_at(self.source.piece(), self.at)?;
        self.at += self.block;
        Ok(Act::moved(self.block as usize))
    }

    fn finish(&mut self) -> Result<()> {
        self.file.sync()
    }
}

fn readers(files: &[PathBuf], access: Access, block: u64) -> Result<Vec<Reader>> {
    let reader = |path: &PathBuf| {
        let file = Opened::read(path, access)?;
        Ok(Reader { end: file.len()?, file, buffer: Aligned::new(block as usize), at: 0 })
    };
    files.iter().map(reader).collect()
}

struct Reader {
    file: Opened,
    buffer: Aligned,
    at: u64,
    end: u64,
}

impl Worker for Reader {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.at < self.end)
    }

    fn act(&mut self) -> Result<Act> {
        let read = self.file.read_at(&mut self.buffer, self.at)?;
        // A file that became shorter ends here.
        self.at = if read == 0 { self.end } else { self.at + read as u64 };
        Ok(Act::moved(read))
    }
}
