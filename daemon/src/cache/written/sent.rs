//! Recording that a file was sent to the bucket: between two rounds, so that nothing of it is on its way.

use super::flush::Job;
use super::state::{Recorded, State};
use crate::cache::file::{CachedFile, Source};
use crate::cache::filemap::Mapped;
use crate::cache::local::LocalData;
use crate::cache::read::metadata_error;
use crate::cache::{Cache, Sending};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{self, BLOCKS_PER_CHUNK, Enforce, Standing, allocated_bytes};
use crate::repository::Pin;
use futures::channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks brought here before a round records them.
const BROUGHT_IN_A_ROUND: u64 = 64;

/// A file that was sent.
pub(in crate::cache) struct Sent {
    file: Arc<CachedFile>,
    what: meta::Sent,
    reply: oneshot::Sender<Result<Standing>>,
}

impl Sent {
    pub(super) fn reply(self, outcome: Result<Standing>) {
        let _ = self.reply.send(outcome);
    }
}

impl State {
    /// Whether the metadata says all there is to say.
    pub fn is_settled(&self) -> bool {
        !self.is_busy() && self.log.places.is_empty()
    }
}

impl Cache {
    /// Has a round record what is dirty of a file.
    pub(in crate::cache) async fn settle(self: &Arc<Self>, file: &Arc<CachedFile>) -> Result<()> {
        let (settled, outcome) = oneshot::channel();
        let reply = Box::new(move |result| drop(settled.send(result)));
        self.flusher.push(Job::Settle { file: Arc::clone(file), reply });
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Records that a file was sent.
    pub async fn sent(self: &Arc<Self>, sending: &Sending, what: meta::Sent) -> Result<Standing> {
        let (reply, outcome) = oneshot::channel();
        self.flusher.push(Job::Sent(Sent { file: Arc::clone(sending.file()), what, reply }));
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Records that a file was sent, on the flusher's thread.
    pub(super) fn record_sent(&self, sent: &Sent) -> Result<Standing> {
        self.pin_written(&sent.file).map_err(|error| metadata_error(&sent.file, &error))?;
        loop {
            let standing = self.record_sent_step(sent)?;
            if standing != Standing::Unfinished {
                return Ok(standing);
            }
        }
    }

    fn record_sent_step(&self, sent: &Sent) -> Result<Standing> {
        let file = &sent.file;
        let LocalData::Packed(packed) = file.local();
        // Nobody begins to change the file until memory says what the metadata says.
        let _unclaimed = file.unclaimed();
        let _references = self.references.lock();
        // Nor is anything entered in its map that was fetched before.
        let _map = file.map_gate().write();
        let _maps = self.maps.without_pending(file.ino());
        let is_clean = file.written().lock().is_settled();
        let what = meta::Sent { is_clean: sent.what.is_clean && is_clean, ..sent.what.clone() };
        // The object has all of the file. Readers learn so before the map names no block any more: else they would take what it does not name for zeros.
        let (base, source) = (packed.base(), file.source());
        let pin = Pin { etag: what.origin.etag.clone(), version: what.origin.version.clone() };
        file.set_source(Source { key: what.origin.key.as_str().into(), pin });
        if what.is_clean {
            packed.base.store(file.size(), Ordering::Release);
        }
        let (standing, released) = self.meta.exported(&what).map_err(|error| {
            packed.base.store(base, Ordering::Release);
            file.set_source(source);
            metadata_error(file, &error)
        })?;
        match standing {
            Standing::Changed => packed.base.store(base, Ordering::Release),
            Standing::Exported | Standing::Unfinished => self.show_sent(file),
        }
        if standing == Standing::Exported {
            file.end_claims();
        }
        self.release(&released);
        Ok(standing)
    }

    /// Has readers find the file's blocks as those of its origin.
    fn show_sent(&self, file: &CachedFile) {
        let mut state = file.written().lock();
        state.base = state.size;
        file.become_another();
        self.maps.drop_rows(file.ino(), 0..state.size.div_ceil(self.block_size() * BLOCKS_PER_CHUNK));
        match self.meta.inode(file.ino()) {
            Ok(Some(row)) => state.recorded = Recorded { size: row.size, allocated: allocated_bytes(&row) },
            Ok(None) => {}
            Err(error) => drop(metadata_error(file, &error)),
        }
    }
}

impl Cache {
    /// Has all of a file's bytes here, as if they had been written: nothing of it comes from its origin any more.
    pub async fn bring_here(self: &Arc<Self>, file: &Arc<CachedFile>) -> Result<()> {
        drop(self.claim(file, Enforce::Nothing, 0)?);
        let mut brought = 0;
        for index in 0..file.size().div_ceil(self.block_size()) {
            let mapped = self.maps.mapped(file.ino(), index).map_err(|error| metadata_error(file, &error))?;
            if !matches!(mapped, Mapped::Origin(_)) {
                continue;
            }
            self.flusher.admit(self, self.block_size() as usize)?;
            let (loaded, outcome) = oneshot::channel();
            self.load(file, index, Box::new(move |done| drop(loaded.send(done))));
            outcome.await.unwrap_or_else(|_| Err(stopping()))?;
            brought += 1;
            if brought % BROUGHT_IN_A_ROUND == 0 {
                self.settle_or_fail(file).await?;
            }
        }
        self.settle_or_fail(file).await
    }

    async fn settle_or_fail(self: &Arc<Self>, file: &Arc<CachedFile>) -> Result<()> {
        self.settle(file).await?;
        if file.written().lock().is_dirty() {
            return Err(Error::new(ErrorKind::Busy, format!("'{}' could not be stored", file.key())));
        }
        Ok(())
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")
}
