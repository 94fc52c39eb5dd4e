//! What would go with a snapshot, found as its deletion finds it: by the log of rows that were written over. The cost follows what was changed after the
//! snapshot, not what there is.
//!
//! A row that this snapshot alone reads was written over after it, and before the next one kept ended. The row that was written over it is the next
//! younger one of its key, and is in the log: so each is met exactly once, at that entry.

use super::reclaim::{epochs_read, maps_of};
use crate::format::rows::{decode_number, is_tombstone, key};
use crate::ids::Epoch;
use crate::meta::engine::{KeyRange, Order, Table};
use crate::meta::map::decode_chunk;
use crate::meta::references::local_blocks;
use crate::meta::rows::{Reading, damaged};
use crate::meta::{HOLE, MapChunk, MetaError, MetaStore, Refusal};
use std::ops::ControlFlow;

/// What a snapshot alone keeps, at one moment. What a deleted snapshot had as well, and was not swept yet, is not in it.
pub struct Leaving<'a> {
    reading: Reading<'a>,
    of: Epoch,
    /// The kept epochs next to it.
    before: Option<Epoch>,
    next: Option<Epoch>,
}

impl MetaStore {
    /// What would go with the snapshot of an epoch.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn leaving(&self, of: Epoch) -> Result<Leaving<'_>, MetaError> {
        let reading = self.reading();
        let kept = epochs_read(&*reading.view)?;
        if !kept.contains(&of) {
            return Err(Refusal::NotFound.into());
        }
        let before = kept.iter().copied().filter(|epoch| *epoch < of).max();
        let next = kept.into_iter().filter(|epoch| *epoch > of).min();
        Ok(Leaving { reading, of, before, next })
    }
}

impl Leaving<'_> {
    /// How many references to a block there are in all.
    pub fn count(&self, fingerprint: u64) -> Result<u64, MetaError> {
        let row = self.reading.view.get(Table::Refs, &key::reference(fingerprint))?;
        row.map_or(Ok(0), |row| decode_number(&row)).map_err(damaged(Table::Refs))
    }

    /// Visits the fingerprint of each reference that would go: of a block as often as it is referred to by rows that go, but for those that the row above has
    /// in the same slot, which stay anyway.
    pub fn references(&self, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let end = self.next.map(|next| key::rewritten(Epoch(next.0 + 1), 0, &[]));
        let log = KeyRange { start: key::rewritten(Epoch(self.of.0 + 1), 0, &[]), end };
        self.each(Table::Rewritten, &log, &mut |entry, _| self.visit_below(entry, visit))?;
        // What is held of objects for it.
        self.each(Table::FileMap, &maps_of(self.of), &mut |_, row| {
            local_blocks(row)?.for_each(&mut *visit);
            Ok(())
        })
    }

    /// Of one entry of the log: the row below it, if that is the snapshot's alone.
    fn visit_below(&self, entry: &[u8], visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let Some((written, table, prefix)) = key::split_rewritten(entry) else { return Ok(()) };
        if table != Table::FileMap as u8 {
            return Ok(());
        }
        let Some(above) = self.reading.view.get(Table::FileMap, &key::versioned(prefix, written))? else { return Ok(()) };
        let Some((epoch, below)) = self.below(prefix, written)? else { return Ok(()) };
        if epoch > self.of || self.before.is_some_and(|before| epoch <= before) {
            return Ok(());
        }
        let (above, below) = (decode(&above)?, decode(&below)?);
        for (slot, id) in below.blocks.iter().enumerate().filter(|(slot, _)| below.is_local(*slot)) {
            let stays = above.is_local(slot) && above.blocks.get(slot) == Some(id);
            if let Some(id) = id.filter(|id| *id != HOLE && !stays) {
                visit(id.fingerprint());
            }
        }
        Ok(())
    }

    /// The next older row of a key.
    fn below(&self, prefix: &[u8], epoch: Epoch) -> Result<Option<(Epoch, Vec<u8>)>, MetaError> {
        let start = key::versioned(prefix, Epoch(epoch.0 - 1));
        let range = KeyRange { start, end: key::after_prefix(&key::versioned(prefix, Epoch(0))) };
        let mut found = None;
        self.reading.view.scan(Table::FileMap, &range, Order::Ascending, &mut |key, row| {
            found = key::split_versioned(key).map(|(_, epoch)| (epoch, row.to_vec()));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn each(
        &self,
        table: Table,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let mut failure = None;
        self.reading.view.scan(table, range, Order::Ascending, &mut |key, row| match visit(key, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }
}

fn decode(row: &[u8]) -> Result<MapChunk, MetaError> {
    if is_tombstone(row) { Ok(MapChunk::default()) } else { decode_chunk(row) }
}
