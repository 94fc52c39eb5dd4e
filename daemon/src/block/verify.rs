//! Looking at the held copy of a block before it is trusted with new data: it is read back from its device and compared.
//!
//! 1. Header and bytes come from the device, not from memory: what counts is what a later start will find.
//! 2. While a copy is looked at, the block is claimed: it may move, but it does not go.

use super::core::Core;
use super::disk::Disk;
use super::header_cache::HeaderKey;
use super::index::Entry;
use super::reclaim::stored_range;
use super::transfer::read_all;
use crate::codec::decompress;
use crate::format::{Encoding, ExtentHeader, FrameHeader, GRAIN};
use crate::ids::BlockId;
use crate::units::SECTOR;
use std::sync::atomic::Ordering;

/// How often a copy is looked at that moves meanwhile.
const TRIES: usize = 3;

/// What the copy of a block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// The very bytes. The block is claimed.
    Same,
    /// Held too, but another block: the first eight bytes of the two identities are the same.
    Other(BlockId),
    /// None that could be referenced.
    None,
}

/// What was read.
enum Seen {
    Same,
    Other(BlockId),
    Damaged,
    Unread,
}

impl Core {
    /// Looks at the held copy of a block, if there is one.
    pub(super) fn existing(&self, id: &BlockId, plain: &[u8]) -> Existing {
        for _ in 0..TRIES {
            let Some(entry) = self.claim_held(id.fingerprint()) else { return Existing::None };
            let (seen, current) = self.look_at(&entry, id, plain);
            match seen {
                Seen::Same if current => return Existing::Same,
                _ => self.unclaim(id.fingerprint(), None),
            }
            match seen {
                _ if !current => {}
                Seen::Other(other) => return Existing::Other(other),
                Seen::Damaged => {
                    self.counters.corrupt_blocks.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(block = ?id, "the copy of a held block is damaged; it is stored anew");
                    return Existing::None;
                }
                Seen::Same | Seen::Unread => return Existing::None,
            }
        }
        Existing::None
    }

    /// What an entry's frame has in it, and whether the entry still pointed there afterwards.
    fn look_at(&self, entry: &Entry, id: &BlockId, plain: &[u8]) -> (Seen, bool) {
        let Some((disk, segment)) = self.locate(entry.segment) else { return (Seen::Unread, false) };
        let figures = &disk.segments[segment as usize];
        let key = HeaderKey { segment: entry.segment, seq: figures.seq(), sector: entry.frame.header_sector() };
        let seen = self.compare(disk, segment, key, entry, id, plain);
        let indexed = self.is_indexed(entry);
        (seen, indexed && figures.seq() == key.seq)
    }

    fn compare(&self, disk: &Disk, segment: u32, key: HeaderKey, entry: &Entry, id: &BlockId, plain: &[u8]) -> Seen {
        let (offset, len) = stored_range(disk, segment, entry);
        let ranges = [(disk.offset(segment, key.sector), SECTOR), (offset, len)];
        let answers = read_all(&**self.array.device(disk.id), &self.pool, &ranges);
        let [Ok(header), Ok(bytes)] = &answers[..] else {
            answers.iter().filter_map(|answer| answer.as_ref().err()).for_each(|error| self.array.record_error(disk.id, error));
            return Seen::Unread;
        };
        let Ok(header) = self.accept_header(key, header) else { return Seen::Damaged };
        let Some(frame) = header.frame_at(entry.frame.grain) else { return Seen::Damaged };
        if frame.id != *id {
            let other = frame.id.fingerprint() == id.fingerprint();
            return if other { Seen::Other(frame.id) } else { Seen::Damaged };
        }
        let skip = entry.frame.grain as usize * GRAIN % SECTOR;
        let stored = bytes.get(skip..).and_then(|bytes| bytes.get(..frame.stored_len as usize));
        let same = stored.is_some_and(|stored| has(&header, frame, stored, plain));
        if same { Seen::Same } else { Seen::Damaged }
    }
}

/// Whether a frame's stored bytes are intact and those of the block.
fn has(header: &ExtentHeader, frame: &FrameHeader, stored: &[u8], plain: &[u8]) -> bool {
    if frame.plain_len as usize != plain.len() || !header.verify(frame, 0, stored) {
        return false;
    }
    match frame.encoding {
        Encoding::Raw => stored == plain,
        Encoding::Lz4 => {
            let mut unpacked = vec![0; plain.len()];
            decompress(stored, &mut unpacked).is_ok() && unpacked == plain
        }
    }
}
