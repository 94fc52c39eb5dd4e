//! The two copies of a held block on their way to two devices.
//!
//! Invariants:
//! 1. The copies are never on their way to the same device.
//! 2. The put is answered once, when the fate of both is known: `Ok` if both are there, or one is and there was no second device that took the other.
//! 3. A copy that is there before the other is entered, held, and claimed until the answer (see [`super::held`]): neither reclaim nor a release takes it away.
//! 4. Devices in service that are all too full for the second copy are no space, not a reason to do without it.

use super::PutError;
use super::core::Core;
use super::index::Entry;
use super::lane::{Cargo, Frame};
use crate::format::SegmentClass;
use crate::ids::BlockId;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// What is known of both copies.
#[derive(Default)]
struct Fate {
    /// The devices that they are on their way to, or on.
    places: [Option<usize>; 2],
    known: u8,
    /// Copies that are there.
    stored: u8,
    /// The block was held before.
    was_held: bool,
    error: Option<PutError>,
    /// The error counts though a copy is there.
    refused: bool,
}

/// One of two copies on its way.
#[derive(Clone)]
pub(super) struct Leg {
    fate: Arc<Mutex<Fate>>,
    second: bool,
}

impl Leg {
    pub(super) fn both() -> [Leg; 2] {
        let fate = Arc::new(Mutex::default());
        [false, true].map(|second| Leg { fate: Arc::clone(&fate), second })
    }

    pub(super) fn is_second(&self) -> bool {
        self.second
    }

    /// Sends this copy to a device; `false` if the other one goes there.
    fn choose(&self, disk: usize) -> bool {
        let mut fate = self.fate.lock();
        let free = fate.places[usize::from(!self.second)] != Some(disk);
        if free {
            fate.places[usize::from(self.second)] = Some(disk);
        }
        free
    }

    /// This copy could not be written where it was to go.
    pub(super) fn give_up_place(&self) {
        self.fate.lock().places[usize::from(self.second)] = None;
    }

    fn others_place(&self) -> Option<usize> {
        self.fate.lock().places[usize::from(!self.second)]
    }
}

impl Core {
    /// Starts both copies of a block on their way; `false` if no device takes the first.
    pub(super) fn start_pair(self: &Arc<Self>, class: SegmentClass, frame: &Frame, plain: &Bytes, candidates: &[usize]) -> bool {
        let [first, second] = Leg::both();
        let cargo =
            |leg: &Leg| Cargo::Put { id: frame.id, plain: plain.clone(), local: true, retried: false, leg: Some(leg.clone()) };
        if self.start_leg(class, frame, &first, cargo(&first), candidates).is_err() {
            return false;
        }
        let frame = Frame { second: true, ..*frame };
        let candidates = self.roomiest(|_| false);
        if self.start_leg(class, &frame, &second, cargo(&second), &candidates).is_err() {
            // What has left service meanwhile does not count.
            let taken = second.others_place();
            let refused = self.roomiest(|_| false).into_iter().any(|at| Some(at) != taken);
            self.end_leg(&frame.id, &second, Err(PutError::NoSpace), refused);
        }
        true
    }

    /// Sends one copy to the first of some devices that takes it. The cargo comes back if none does.
    pub(super) fn start_leg(
        self: &Arc<Self>,
        class: SegmentClass,
        frame: &Frame,
        leg: &Leg,
        mut cargo: Cargo,
        candidates: &[usize],
    ) -> Result<(), Cargo> {
        for at in candidates {
            if !leg.choose(*at) {
                continue;
            }
            match self.append(*at, class, frame, cargo) {
                Ok(()) => return Ok(()),
                Err(back) => cargo = back,
            }
            leg.give_up_place();
        }
        Err(cargo)
    }

    /// A copy is on its device.
    pub(super) fn leg_arrived(&self, id: &BlockId, leg: &Leg, entry: &Entry) {
        {
            let mut fate = leg.fate.lock();
            let is_first = fate.stored == 0;
            let was_held = self.settle(entry, true, u32::from(is_first));
            fate.stored += 1;
            fate.was_held |= is_first && was_held;
        }
        self.end_leg(id, leg, Ok(()), false);
    }

    /// The fate of a copy is known; `refused`: the put fails whatever became of the other.
    pub(super) fn end_leg(&self, id: &BlockId, leg: &Leg, result: Result<(), PutError>, refused: bool) {
        let mut fate = leg.fate.lock();
        fate.known += 1;
        if let Err(error) = result {
            fate.error = Some(error);
            fate.refused |= refused;
        }
        if fate.known < 2 {
            return;
        }
        let fingerprint = id.fingerprint();
        let (stored, was_held) = (fate.stored, fate.was_held);
        let error = fate.error.take().filter(|_| fate.refused || stored == 0);
        drop(fate);
        match error {
            Some(error) => {
                if stored > 0 {
                    // Nobody has been told of the copy that is there.
                    self.unclaim(fingerprint, (!was_held).then_some(false));
                }
                self.desk.fail(id, &error);
            }
            None => {
                if stored < 2 {
                    self.note_one_copy();
                }
                self.desk.finish(id, |locals| self.hand_claim_on(fingerprint, locals));
            }
        }
    }

    fn note_one_copy(&self) {
        if !self.degraded.swap(true, std::sync::atomic::Ordering::AcqRel) {
            tracing::warn!("only one device takes what is written: it has one copy until there is a second device again");
        }
        self.mender.ring();
    }
}
