//! The store's housekeeping threads: one seals, reclaims and looks after devices; one writes extents that nobody fills up.

use super::attach::{AttachError, Expected, Head, geometry, read_head, settle};
use super::core::Core;
use super::disk::{Disk, SegmentState};
use super::held::Lost;
use super::lane::OpenSegment;
use crate::format::{Footer, SegmentClass};
use crate::io::{IoError, write_blocking};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// How long a frame waits for company before its extent is written anyway.
const LINGER: Duration = Duration::from_millis(20);
/// How often devices out of service are looked at when nothing else happens.
const ROUND: Duration = Duration::from_millis(100);

#[derive(Default)]
struct BellState {
    rung: bool,
    stopped: bool,
}

/// Wakes a thread; a ring while it is busy is not lost.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        let mut state = self.state.lock();
        if !state.rung {
            state.rung = true;
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Waits for a ring (or for a while, if given); `false` when stopped.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.stopped {
            match at_most {
                Some(time) => drop(self.changed.wait_for(&mut state, time)),
                None => self.changed.wait(&mut state),
            }
        }
        state.rung = false;
        !state.stopped
    }

    /// Waits a fixed time, rings or not; `false` when stopped.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.stopped, time);
        !state.stopped
    }
}

/// The body of the thread that writes extents which nobody fills up.
pub(super) fn linger_loop(core: &Arc<Core>) {
    while core.linger.wait(None) && core.linger.pause(LINGER) {
        if core.cut_what_is_free() {
            core.linger.ring();
        }
    }
}

/// The body of the housekeeping thread.
pub(super) fn keeper_loop(core: &Arc<Core>) {
    while core.keeper.wait(Some(ROUND)) {
        for at in 0..core.disks.len() {
            let _busy = core.housekeeping.lock();
            core.look_after(at);
        }
    }
}

impl Core {
    fn look_after(self: &Arc<Self>, at: usize) {
        let disk = &self.disks[at];
        if !disk.is_attached() && !disk.is_refused() && self.array.in_service(disk.id) {
            self.try_attach(disk);
        }
        if !self.serves(disk) {
            return;
        }
        self.seal_closed(disk);
        while disk.free_segments() < disk.low_water() && !self.is_abandoned() {
            let freed = self.holds.are_known() && self.reclaim_one(at);
            self.seal_closed(disk);
            if !freed {
                if !disk.has_space() && !closing_any(disk) {
                    disk.mark_stuck();
                }
                break;
            }
        }
        self.give_back_one(disk);
    }

    /// A device is back in service: is it still the one we know?
    fn try_attach(self: &Arc<Self>, disk: &Disk) {
        match self.attach(disk) {
            Ok(()) => {
                disk.set_attached(true);
                self.mender.ring();
            }
            Err(AttachError::Io(error)) => self.array.record_error(disk.id, &error),
            Err(AttachError::Refused(error)) => {
                tracing::warn!(%error, "a device came back with something else on it");
                disk.refuse();
            }
        }
    }

    fn attach(self: &Arc<Self>, disk: &Disk) -> Result<(), AttachError> {
        let device = &**self.array.device(disk.id);
        let expected = Expected { fs: self.fs, device: disk.id, devices: self.disks.len(), config: &self.config };
        let head = read_head(device, &self.pool, &expected)?;
        let found = match head {
            // The cut that the store has been working with, whatever a blank device would get by itself.
            Head::Blank => disk.geometry,
            Head::Ours(..) => geometry(device, &head, &expected)?,
        };
        if found != disk.geometry {
            let why = "it came back cut differently; mount again to use it".to_owned();
            return Err(super::OpenError::Unusable { device: device.name().to_owned(), why }.into());
        }
        if matches!(head, Head::Blank) {
            self.forget_disk(disk);
        }
        settle(device, &self.pool, &head, &found, &expected)?;
        if !disk.is_recovered() {
            self.recover(disk, true)?;
        }
        Ok(())
    }

    /// Everything that was on a device is gone.
    fn forget_disk(&self, disk: &Disk) {
        let mut gone = Vec::new();
        self.for_each_entry(|entry| {
            if disk.local(entry.segment).is_some() {
                gone.push(*entry);
            }
        });
        let held = gone.into_iter().filter(|entry| self.lose(entry) == Lost::Local).count();
        if held > 0 {
            disk.note_forgotten();
            tracing::error!(device = %disk.id, blocks = held, "a device was exchanged for a blank one: data that was nowhere else is lost");
        }
        // Open and closed segments run out by themselves: what was on its way fails, and with nothing in them they are reclaimed.
        for class in SegmentClass::ALL {
            disk.lane(class).give_up_segment();
        }
        for segment in disk.segments.iter().filter(|segment| segment.state() == SegmentState::Sealed) {
            segment.set_state(SegmentState::Free);
        }
        disk.list_free();
    }

    /// Writes the footers of closed segments. A segment without one (the write failed) is found by a scan after a restart.
    pub(super) fn seal_closed(&self, disk: &Disk) {
        let closed = std::mem::take(&mut *disk.to_seal.lock());
        if closed.is_empty() {
            return;
        }
        let flushed = self.flush_disk(disk);
        for segment in closed {
            if flushed.is_ok() {
                let written = self.write_footer(disk, &segment, true);
                self.record(disk, &written);
            }
            disk.segments[segment.stamp.segment as usize].set_state(SegmentState::Sealed);
        }
    }

    /// At the end: footers for the segments still open, so that the next start need not scan them.
    pub(super) fn checkpoint(&self, disk: &Disk) -> Result<(), IoError> {
        self.seal_closed(disk);
        let open: Vec<_> = SegmentClass::ALL.into_iter().filter_map(|class| disk.lane(class).take_open()).collect();
        let device = self.array.device(disk.id);
        device.flush()?;
        for segment in open {
            self.write_footer(disk, &segment, false)?;
        }
        device.flush()
    }

    fn write_footer(&self, disk: &Disk, segment: &OpenSegment, sealed: bool) -> Result<(), IoError> {
        let footer = segment.footer(sealed);
        let len = Footer::encoded_len(footer.frames.len());
        let mut buf = self.pool.alloc(len);
        footer.encode_into(&mut buf);
        let offset = disk.offset(segment.stamp.segment + 1, 0) - len as u64;
        write_blocking(&**self.array.device(disk.id), offset, buf).map(drop)
    }
}

fn closing_any(disk: &Disk) -> bool {
    disk.segments.iter().any(|segment| segment.state() == SegmentState::Closed)
}
