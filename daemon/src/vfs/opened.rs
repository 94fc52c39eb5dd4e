//! When files were last opened, since the mount: reads do not change a file's access time, and who lets go of what nobody uses has to know.
//!
//! In memory, and bounded: when there are more, those opened longest ago are forgotten.

use super::Inner;
use crate::ids::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Files remembered at most, 16 bytes and some each.
const REMEMBERED: usize = 1 << 20;
const NS: i64 = 1_000_000_000;

/// When files were opened, in seconds since the Unix epoch.
#[derive(Default)]
pub(super) struct Opened(Mutex<HashMap<Ino, u32>>);

impl Opened {
    fn note(&self, ino: Ino, now_ns: i64, most: usize) {
        let mut table = self.0.lock();
        table.insert(ino, (now_ns / NS).clamp(0, u32::MAX.into()) as u32);
        if table.len() > most {
            let mut times: Vec<u32> = table.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            table.retain(|_, at| *at > median);
        }
    }

    fn at_ns(&self, ino: Ino) -> Option<i64> {
        // The end of that second: rather too young than too old.
        self.0.lock().get(&ino).map(|at| (i64::from(*at) + 1) * NS)
    }
}

impl Inner {
    pub(super) fn note_opened(&self, ino: Ino) {
        self.opened.note(ino, self.clock.wall_ns(), REMEMBERED);
    }

    /// When a file was last opened (wall time, ns), if it was since the mount.
    pub(super) fn opened_at(&self, ino: Ino) -> Option<i64> {
        self.opened.at_ns(ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_counts_and_the_oldest_are_forgotten() {
        let opened = Opened::default();
        assert_eq!(opened.at_ns(Ino(2)), None);
        for at in 0..8 {
            opened.note(Ino(at), at as i64 * NS + 7, 8);
        }
        opened.note(Ino(2), 20 * NS, 8);
        assert_eq!((opened.at_ns(Ino(2)), opened.at_ns(Ino(1))), (Some(21 * NS), Some(2 * NS)));
        opened.note(Ino(9), 21 * NS, 8);
        assert_eq!((opened.at_ns(Ino(1)), opened.at_ns(Ino(2)), opened.at_ns(Ino(9))), (None, Some(21 * NS), Some(22 * NS)));
    }
}
