//! Putting fetched blocks on the thread that fetched them: no thread is woken for a block, and what was just received is still in the
//! processor's caches when it is hashed.
//!
//! Such a thread serves others as well and must not wait. What would have to (for space, for a lane that somebody has, for a segment to be opened,
//! for a device to be read) is left to the encoder threads.

use super::core::Core;
use super::lane::{Cargo, Frame};
use super::put::{Joined, Put, Tools, Work};
use crate::format::SegmentClass;
use crate::io::IoOp;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::default();
}

impl Core {
    /// Takes a block in on the caller's thread as far as that needs no waiting.
    pub(super) fn take_in_now(self: &Arc<Self>, put: Put) {
        let Some(joined) = self.join(put) else { return };
        // A held block may have to be compared with what is stored.
        let is_added = !joined.local && TOOLS.with_borrow_mut(|tools| self.add_now(tools, &joined));
        if !is_added {
            let sent = self.work.send(Work::Joined(joined));
            assert!(sent.is_ok(), "the queue lives as long as the store");
        }
    }

    /// Adds a block to the extent being filled on the device where it should go; `false` if that has to wait.
    fn add_now(self: &Arc<Self>, tools: &mut Tools, joined: &Joined) -> bool {
        let Joined { id, plain, place, .. } = joined;
        let Some(at) = self.candidates(*place, None).first().copied() else { return false };
        let frame = self.encode(tools, *id, plain, false);
        let cargo = Cargo::Put { id: *id, plain: plain.clone(), local: false, retried: false, leg: None };
        self.append_now(at, self.class_for(id), &frame, cargo)
    }

    fn append_now(self: &Arc<Self>, at: usize, class: SegmentClass, frame: &Frame, cargo: Cargo) -> bool {
        let disk = &self.disks[at];
        let Some(mut lane) = disk.lane_if_free(class) else { return false };
        let mut writes = Vec::new();
        let is_added = lane.append_to_open(self.site(disk, class, false), frame, cargo, &mut writes);
        drop(lane);
        self.launch(at, IoOp::Write, writes);
        if is_added {
            self.linger.ring();
        }
        is_added
    }
}
