//! Making the second copies that are missing: of what was written while one device was in service, of what was found corrupt, of what a device
//! had that is gone, and of everything after a mount with two copies where there was one before.
//!
//! Looks through the index, a shard at a time, whenever something may have come to lack a copy, and every few seconds while something does. A copy is the
//! stored frame as it is, verified, on the device with the most room.
//!
//! 1. A copy is entered only if its source still is what it was copied from, and held. What moved or was released meanwhile is seen by the next pass.
//! 2. With fewer than two devices in service there is nothing to do: whichever comes back rings.
//! 3. The thread waits for room, and for as long again as it worked: writers come first.
//! 4. What cannot be read stays as it is; what is read and damaged is lost, and counted and logged as such.

use super::core::Core;
use super::held::Lost;
use super::index::{Entry, Index};
use super::lane::{Cargo, Frame};
use super::reclaim::{MOVE_WINDOW, MoveGroup, stored_range};
use super::transfer::read_all;
use crate::format::{GRAIN, SegmentClass};
use crate::io::IoOp;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often what could not be copied is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The body of the thread that makes missing copies.
pub(super) fn mend_loop(core: &Arc<Core>) {
    let mut pause = None;
    while core.mender.wait(pause) {
        pause = (core.holds.are_known() && core.mend() > 0).then_some(AGAIN);
    }
}

impl Core {
    /// One pass; how many blocks still lack a copy after it.
    fn mend(self: &Arc<Self>) -> u64 {
        if self.roomiest(|_| false).len() < 2 {
            return 0;
        }
        let (mut made, mut left) = (0, 0);
        for shard in 0..Index::SHARDS {
            let lacking = {
                let _quiet = self.housekeeping.lock();
                self.drop_idle_seconds(shard);
                self.lacking_in(shard)
            };
            for batch in lacking.chunks(MOVE_WINDOW) {
                let began = Instant::now();
                if self.is_closing() || !self.copy_batch(batch) {
                    break;
                }
                self.mender.pause(began.elapsed());
            }
            let lack = lacking.iter().filter(|entry| self.lacks_copy(entry)).count() as u64;
            made += lacking.len() as u64 - lack;
            left += lack;
        }
        if made > 0 {
            tracing::info!(blocks = made, "second copies of data that exists only here were made");
        }
        if left == 0 && self.degraded.swap(false, Ordering::AcqRel) {
            tracing::info!("all data that exists only here has two copies again");
        }
        left
    }

    /// Copies some blocks; `false` if there is nowhere to copy to.
    fn copy_batch(self: &Arc<Self>, batch: &[Entry]) -> bool {
        let group = Arc::new(MoveGroup::default());
        for source_at in 0..self.disks.len() {
            let on_disk = |entry: &Entry| self.disks[source_at].local(entry.segment).is_some();
            let sources: Vec<Entry> =
                batch.iter().filter_map(|entry| self.served_copy(entry.frame.fingerprint)).filter(on_disk).collect();
            if sources.is_empty() {
                continue;
            }
            let Some(target) = self.target_for(source_at) else { continue };
            let _quiet = self.housekeeping.lock();
            self.copy_from(source_at, target, &sources, &group);
            let mut writes = Vec::new();
            let disk = &self.disks[target];
            disk.lane(SegmentClass::Probation).cut(self.site(disk, SegmentClass::Probation, false), &mut writes);
            self.launch(target, IoOp::Write, writes);
            group.wait(&|| self.is_abandoned());
        }
        self.roomiest(|_| false).len() > 1
    }

    /// Where copies of what is on a device go, once there is room.
    fn target_for(&self, source: usize) -> Option<usize> {
        let stop = |disk: &super::disk::Disk| self.is_closing() || !self.serves(disk);
        let others = self.roomiest(|disk| disk.id == self.disks[source].id);
        let wake = || self.keeper.ring();
        others.into_iter().find(|at| self.disks[*at].wait_space(&wake, &|| stop(&self.disks[*at])))
    }

    fn copy_from(self: &Arc<Self>, at: usize, target: usize, sources: &[Entry], group: &Arc<MoveGroup>) {
        let disk = &self.disks[at];
        // Reclaim does not get in between: housekeeping is locked.
        let place = |entry: &Entry| disk.local(entry.segment).expect("asked for this device's");
        let ranges: Vec<(u64, usize)> = sources.iter().map(|entry| stored_range(disk, place(entry), entry)).collect();
        let answers = read_all(&**self.array.device(disk.id), &self.pool, &ranges);
        for ((entry, (offset, _)), answer) in sources.iter().zip(ranges).zip(answers) {
            let bytes = match answer {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.array.record_error(disk.id, &error);
                    continue;
                }
            };
            let frame_at = disk.offset(place(entry), 0) + u64::from(entry.frame.grain) * GRAIN as u64;
            let stored = &bytes[(frame_at - offset) as usize..][..entry.frame.stored_len as usize];
            self.copy_frame(target, entry, place(entry), stored, group);
        }
    }

    /// Appends a verified frame to the device of its second copy.
    fn copy_frame(self: &Arc<Self>, target: usize, entry: &Entry, segment: u32, stored: &[u8], group: &Arc<MoveGroup>) {
        let Some((source, _)) = self.locate(entry.segment) else { return };
        let Some(header) = self.header_of(source, segment, entry.frame.header_sector()) else { return };
        let Some(found) = header.frame_at(entry.frame.grain).filter(|found| header.verify(found, 0, stored)) else {
            return self.note_damaged(entry);
        };
        let frame = Frame {
            id: found.id,
            encoding: found.encoding,
            plain_len: found.plain_len,
            local_only: true,
            second: !entry.frame.second,
            stored,
            checks: header.checksums(found),
        };
        group.expect_one();
        let cargo = Cargo::Copied { from: *entry, group: group.clone() };
        let disk = &self.disks[target];
        let mut writes = Vec::new();
        let site = self.site(disk, SegmentClass::Probation, false);
        let appended = disk.lane(SegmentClass::Probation).append(site, &frame, cargo, &mut writes);
        self.launch(target, IoOp::Write, writes);
        if appended.is_err() {
            group.arrived();
        }
    }

    fn note_damaged(&self, entry: &Entry) {
        if self.is_indexed(entry) {
            self.counters.corrupt_blocks.fetch_add(1, Ordering::Relaxed);
            let (lost, block) = (self.lose(entry), entry.frame.fingerprint);
            if lost == Lost::Local {
                tracing::error!(block = format!("{block:016x}"), "a block whose only copy is here is damaged: it is lost");
            }
        }
    }

    /// A copy is on its device.
    pub(super) fn copied(&self, entry: &Entry, from: &Entry) {
        let _claims = self.holds.lock(entry.frame.fingerprint);
        let source = self.table(from).get(entry.frame.fingerprint).filter(|now| now.same_place(from) && now.frame.local_only);
        if source.is_some() {
            self.index_insert(entry, |_| Some(true));
        }
    }
}
