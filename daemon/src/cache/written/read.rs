//! Reading files that were written: dirty memory first, then what the map names, then the origin; zeros where there is nothing.

use super::state::pieces;
use crate::block::BlockWant;
use crate::cache::file::CachedFile;
use crate::cache::filemap::Mapped;
use crate::cache::local::LocalData;
use crate::cache::read::{Assembly, Data, metadata_error};
use crate::cache::{Cache, ReadReply};
use crate::error::{Error, ErrorKind};
use crate::ids::BlockId;
use crate::meta::MetaError;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Zeros to answer with.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

/// Where a piece of an answer comes from.
enum Source {
    Memory(Bytes),
    Zeros(usize),
    /// Blocks written here, from a byte of the file on: nothing else can stand in for them.
    Local(u64, Vec<BlockWant>),
    /// A block of the origin, cached or not.
    Origin {
        index: u64,
        start: u32,
        len: u32,
    },
}

impl Cache {
    /// Reads bytes below the file's size.
    pub(in crate::cache) fn read_written(self: &Arc<Self>, file: &Arc<CachedFile>, bytes: Range<u64>, reply: ReadReply) {
        let sources = match self.sources(file, &bytes) {
            Ok(sources) => sources,
            Err(error) => return reply(Err(metadata_error(file, &error))),
        };
        if sources.is_empty() {
            return reply(Ok(Bytes::new()));
        }
        let assembly = Assembly::new(sources.len(), reply);
        for (slot, source) in sources.into_iter().enumerate() {
            let assembly = Arc::clone(&assembly);
            match source {
                Source::Memory(bytes) => assembly.fill(slot, Ok(Data::Stored(bytes))),
                Source::Zeros(len) => assembly.fill(slot, Ok(Data::Stored(zeros(len)))),
                Source::Local(start, wants) => self.read_local(file, start, wants, slot, assembly),
                Source::Origin { index, start, len } => {
                    let done = move |outcome: Result<Bytes, Error>| assembly.fill(slot, outcome.map(Data::Stored));
                    self.read_origin(file, index, start, len, Box::new(done));
                }
            }
        }
    }

    fn read_local(
        self: &Arc<Self>,
        file: &Arc<CachedFile>,
        start: u64,
        wants: Vec<BlockWant>,
        slot: usize,
        assembly: Arc<Assembly>,
    ) {
        let (cache, file) = (Arc::clone(self), Arc::clone(file));
        let bytes = start..start + wants.iter().map(|want| u64::from(want.len)).sum::<u64>();
        let exports = file.export().count();
        self.store.read(
            wants,
            Box::new(move |outcome| match outcome {
                Ok(bytes) => {
                    cache.count_hit(bytes.len());
                    assembly.fill(slot, Ok(Data::Stored(bytes)));
                }
                // It is in the bucket by now, and may have been dropped here.
                Err(_) if file.export().count() != exports => {
                    let done = move |outcome: Result<Bytes, Error>| assembly.fill(slot, outcome.map(Data::Stored));
                    cache.read_written(&file, bytes, Box::new(done));
                }
                Err(faults) => {
                    let why = faults.first().map(|(_, fault)| fault.to_string()).unwrap_or_default();
                    let message = format!("data of '{}' that exists only here is lost: {why}", file.key());
                    assembly.fill(slot, Err(Error::new(ErrorKind::Io, message)));
                }
            }),
        );
    }

    fn sources(&self, file: &CachedFile, bytes: &Range<u64>) -> Result<Vec<Source>, MetaError> {
        let LocalData::Packed(packed) = file.local();
        let blocks = packed.blocks(bytes);
        // Rows are loaded before the file's lock is taken: a row may come from disk.
        let rows = self.maps.rows(file.ino(), &blocks)?;
        let state = file.written().lock();
        let mut sources = Vec::new();
        // It may have been cut since somebody looked how long it is: what is gone is not zeros.
        let there = bytes.start..bytes.end.min(state.size).max(bytes.start);
        for (index, within, _) in pieces(there, packed.block_size) {
            if let Some(bytes) = state.held(index, within.clone()) {
                sources.push(Source::Memory(bytes));
                continue;
            }
            let (start, len) = (within.start as u32, within.len() as u32);
            match rows.mapped(index) {
                Mapped::Hole => push_zeros(&mut sources, within.len()),
                Mapped::Local(id) => self.push_local(&mut sources, index * packed.block_size, id, start, len),
                Mapped::Origin(_) => {
                    let there = packed.block_len(index).saturating_sub(start).min(len);
                    if there > 0 {
                        sources.push(Source::Origin { index, start, len: there });
                    }
                    push_zeros(&mut sources, (len - there) as usize);
                }
            }
        }
        Ok(sources)
    }

    /// A block written here may be shorter than the file now says: the rest is zeros.
    fn push_local(&self, sources: &mut Vec<Source>, block_start: u64, id: BlockId, start: u32, len: u32) {
        // One that is not there is asked for all the same: the store knows what to say of it.
        let plain_len = self.store.plain_len(&id).unwrap_or(start + len);
        let there = plain_len.saturating_sub(start).min(len);
        if there > 0 {
            let want = BlockWant { id, plain_len, start, len: there };
            match sources.last_mut() {
                Some(Source::Local(_, wants)) => wants.push(want),
                _ => sources.push(Source::Local(block_start + u64::from(start), vec![want])),
            }
        }
        push_zeros(sources, (len - there) as usize);
    }

    /// Reads the whole present content of a block that memory does not have, as far as there is any.
    pub(super) fn read_block(self: &Arc<Self>, file: &Arc<CachedFile>, index: u64, done: ReadReply) {
        let LocalData::Packed(packed) = file.local();
        let start = index * packed.block_size;
        let end = (start + packed.block_size).min(file.size());
        if start >= end {
            return done(Ok(Bytes::new()));
        }
        self.read_written(file, start..end, done);
    }

    /// Whether the stored form of a file's last block has bytes behind the file's end.
    pub(super) fn has_excess(&self, file: &CachedFile, index: u64) -> bool {
        let content = file.size() % u64::from(self.config.block_size);
        match self.maps.mapped(file.ino(), index) {
            Ok(Mapped::Local(id)) => self.store.plain_len(&id).is_none_or(|len| u64::from(len) > content),
            Ok(Mapped::Hole | Mapped::Origin(_)) => false,
            Err(_) => true,
        }
    }

    /// Reads a piece of a block of the origin, cached or not.
    fn read_origin(self: &Arc<Self>, file: &Arc<CachedFile>, index: u64, start: u32, len: u32, done: ReadReply) {
        let from = index * u64::from(self.config.block_size) + u64::from(start);
        self.read_range(file, from..from + u64::from(len), done);
    }

    /// Whether a block has content outside of memory.
    pub(super) fn has_content(&self, file: &CachedFile, index: u64) -> Result<bool, MetaError> {
        let LocalData::Packed(packed) = file.local();
        Ok(match self.maps.mapped(file.ino(), index)? {
            Mapped::Hole => false,
            Mapped::Local(_) => true,
            Mapped::Origin(_) => packed.block_len(index) > 0,
        })
    }
}

fn zeros(len: usize) -> Bytes {
    if len <= ZEROS.len() { Bytes::from_static(&ZEROS[..len]) } else { Bytes::from(vec![0; len]) }
}

fn push_zeros(sources: &mut Vec<Source>, len: usize) {
    if len == 0 {
        return;
    }
    match sources.last_mut() {
        Some(Source::Zeros(before)) => *before += len,
        _ => sources.push(Source::Zeros(len)),
    }
}
