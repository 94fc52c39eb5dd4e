//! What would go with a snapshot, found as its deletion finds it: by the log of rows that were written over. The cost follows what was changed after the
//! snapshot, not what there is.
//!
//! A row goes that neither the present nor another snapshot reads. It lies directly below a younger one, which is in the log, since it was written over it; so
//! each is met exactly once, at that entry, and nothing has to be remembered.

use super::reclaim::{epochs_read, maps_of};
use crate::format::rows::{decode_number, is_tombstone, key};
use crate::ids::Epoch;
use crate::meta::engine::{KeyRange, Order, Table};
use crate::meta::map::decode_chunk;
use crate::meta::references::local_blocks;
use crate::meta::rows::{Reading, damaged};
use crate::meta::{HOLE, MapChunk, MetaError, MetaStore, Refusal};
use std::ops::ControlFlow;

/// What a snapshot alone keeps, at one moment; and what is left of others that were deleted, where its deletion comes by.
pub struct Leaving<'a> {
    reading: Reading<'a>,
    of: Epoch,
    /// The other kept epochs.
    others: Vec<Epoch>,
}

impl MetaStore {
    /// What would go with the snapshot of an epoch.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn leaving(&self, of: Epoch) -> Result<Leaving<'_>, MetaError> {
        let reading = self.reading();
        let mut others = epochs_read(&*reading.view)?;
        let kept = others.len();
        others.retain(|epoch| *epoch != of);
        if others.len() == kept {
            return Err(Refusal::NotFound.into());
        }
        Ok(Leaving { reading, of, others })
    }
}

impl Leaving<'_> {
    /// How many references to a block there are in all.
    pub fn count(&self, fingerprint: u64) -> Result<u64, MetaError> {
        let row = self.reading.view.get(Table::Refs, &key::reference(fingerprint))?;
        row.map_or(Ok(0), |row| decode_number(&row)).map_err(damaged(Table::Refs))
    }

    /// Visits the fingerprint of each reference that would go: of a block as often as it is referred to by rows that go, but for those that the row above has
    /// in the same slot and that stay with it.
    pub fn references(&self, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let before = self.others.iter().copied().filter(|epoch| *epoch < self.of).max().unwrap_or(Epoch(0));
        let next = self.others.iter().copied().filter(|epoch| *epoch > self.of).min();
        let after = |epoch: Epoch| key::rewritten(Epoch(epoch.0 + 1), 0, &[]);
        let log = KeyRange { start: after(before), end: next.map(after) };
        self.reading.each(Table::Rewritten, &log, &mut |entry, _| self.visit_below(entry, visit))?;
        // What is held of objects for it.
        self.reading.each(Table::FileMap, &maps_of(self.of), &mut |_, row| {
            local_blocks(row)?.for_each(&mut *visit);
            Ok(())
        })
    }

    /// Of one entry of the log: the row below it, if nobody else reads that.
    fn visit_below(&self, entry: &[u8], visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let Some((written, table, prefix)) = key::split_rewritten(entry) else { return Ok(()) };
        if table != Table::FileMap as u8 {
            return Ok(());
        }
        let Some(above) = self.reading.view.get(Table::FileMap, &key::versioned(prefix, written))? else { return Ok(()) };
        let Some((epoch, below)) = self.reading.older(Table::FileMap, prefix, written)? else { return Ok(()) };
        if self.is_read(epoch, Some(written)) {
            return Ok(());
        }
        let above_stays = match self.above(prefix, written)? {
            None => true,
            younger => self.is_read(written, younger),
        };
        let (above, below) = (decode(&above)?, decode(&below)?);
        for (slot, id) in below.blocks.iter().enumerate().filter(|(slot, _)| below.is_local(*slot)) {
            let stays = above_stays && above.is_local(slot) && above.blocks.get(slot) == Some(id);
            if let Some(id) = id.filter(|id| *id != HOLE && !stays) {
                visit(id.fingerprint());
            }
        }
        Ok(())
    }

    /// Whether another snapshot reads a row that was written in one epoch and written over in another.
    fn is_read(&self, written: Epoch, over: Option<Epoch>) -> bool {
        self.others.iter().any(|kept| written <= *kept && over.is_none_or(|over| *kept < over))
    }

    /// The epoch of the next younger row of a key.
    fn above(&self, prefix: &[u8], epoch: Epoch) -> Result<Option<Epoch>, MetaError> {
        let range = KeyRange { start: key::versioned(prefix, Epoch(u64::MAX)), end: Some(key::versioned(prefix, epoch)) };
        let mut found = None;
        self.reading.view.scan(Table::FileMap, &range, Order::Descending, &mut |key, _| {
            found = key::split_versioned(key).map(|(_, epoch)| epoch);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

fn decode(row: &[u8]) -> Result<MapChunk, MetaError> {
    if is_tombstone(row) { Ok(MapChunk::default()) } else { decode_chunk(row) }
}
