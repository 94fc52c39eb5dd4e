//! Fetched blocks on their way into the block store.

use super::Cache;
use super::file::CachedFile;
use super::local::LocalData;
use super::preload::Stored;
use super::region::Piece;
use crate::block::PutError;
use crate::ids::{BlockId, BlockIndex};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Cache {
    /// Answers the waiters of a block that was asked for after so many exports, and stores it; `false` if there was another since. Waits while too much is on its way to the devices: the stream that
    /// brought it then waits as well, so the network never outruns the devices without bound.
    pub(super) async fn publish_and_fill(
        self: &Arc<Self>,
        file: &Arc<CachedFile>,
        index: u64,
        bytes: Piece,
        asked: u64,
        stored: Option<&Arc<Stored>>,
    ) -> bool {
        let len = bytes.as_ref().len();
        let permits = u32::try_from(len).expect("a block is far below 4 GiB");
        // Before anybody sees the block: who has read a file and then drains the cache finds it stored.
        let permit = Arc::clone(&self.fill_permits).try_acquire_many_owned(permits);
        if !file.publish(index, &bytes, asked, stored.is_some()) {
            return false;
        }
        let permit = match permit {
            Ok(permit) => permit,
            Err(_) => match Arc::clone(&self.fill_permits).acquire_many_owned(permits).await {
                Ok(permit) => permit,
                Err(_) => return true,
            },
        };
        let place = self.array.place(file.layout(), file.ino().0, index * u64::from(self.config.block_size));
        let (cache, file) = (Arc::clone(self), Arc::clone(file));
        let stored = stored.cloned().inspect(|stored| stored.expect_one());
        let done = move |outcome: Result<BlockId, PutError>| {
            drop(permit);
            let told = outcome.as_ref().map(BlockId::fingerprint).map_err(PutError::clone);
            cache.filled(&file, index, len, asked, outcome);
            if let Some(stored) = stored {
                stored.arrived(told);
            }
        };
        self.store.put_now(Bytes::from_owner(bytes), place, Box::new(done));
        true
    }

    fn filled(&self, file: &Arc<CachedFile>, index: u64, len: usize, asked: u64, outcome: Result<BlockId, PutError>) {
        match outcome {
            Ok(id) => {
                // A file that was cut meanwhile must not get back what was cut off, nor one that was exported what was written over.
                let _gate = file.map_gate().read();
                let LocalData::Packed(packed) = file.local();
                if packed.block_len(index) as usize == len && file.export().count() == asked {
                    self.maps.set(file.ino(), BlockIndex(index), id);
                    if file.is_pinned() {
                        self.pinned.add(id.fingerprint());
                    }
                }
            }
            Err(error) => {
                let before = self.counters.unstored_blocks.fetch_add(1, Ordering::Relaxed);
                // A full or failing cache would repeat this for every block: powers of two keep the log readable.
                if before == 0 || before.is_power_of_two() {
                    tracing::warn!(key = &*file.key(), %error, unstored = before + 1, "fetched data could not be cached");
                }
            }
        }
        if file.settle(index) {
            self.retained.keep(Arc::clone(file), index);
        }
    }
}
