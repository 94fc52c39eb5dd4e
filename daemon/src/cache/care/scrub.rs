//! Reading everything that is stored, at a rate; what is lost is told by the names of its files.

use super::{LostPart, NAMED, ScrubReport, Watch};
use crate::block::Damage;
use crate::cache::Cache;
use crate::config::Settings;
use crate::meta::MetaError;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long to wait for missing copies to be made, at the end.
const MENDED_WITHIN: Duration = Duration::from_secs(30);
/// How often to look whether they are.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps a rate over all of a run: a step may be late, and the next ones make up for it for a second at most.
struct Rate {
    per_second: u64,
    due: Instant,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Rate { per_second: per_second.max(1), due: Instant::now() }
    }

    /// How long to wait after so many bytes.
    fn after(&mut self, bytes: u64, now: Instant) -> Duration {
        let behind = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let takes = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        self.due = self.due.max(behind) + takes;
        self.due.saturating_duration_since(now)
    }
}

impl Cache {
    /// Reads and checks every stored block, so many bytes a second; with `heal` what is damaged is dropped where the bucket has it, made anew from its other copy, or stored
    /// anew. What exists only here and is damaged stays, and is told of by name; so is what is on no device any more.
    pub fn scrub(&self, heal: bool, rate: u64, watch: &Watch) -> Result<ScrubReport, MetaError> {
        let missing = self.missing_blocks(watch)?;
        self.scrub_stored(heal, rate, watch, missing)
    }

    pub(super) fn scrub_stored(
        &self,
        heal: bool,
        rate: u64,
        watch: &Watch,
        mut lost: HashSet<u64>,
    ) -> Result<ScrubReport, MetaError> {
        watch.expect(self.store.scrub_bytes());
        let mut report = ScrubReport { healed: heal, ..ScrubReport::default() };
        let mut rate = Rate::new(rate);
        let mut pace = |bytes: u64| {
            watch.advance(bytes);
            watch.pause(rate.after(bytes, Instant::now()));
            watch.is_wanted()
        };
        let scrubbed = self.store.scrub(heal, &mut pace, &mut |frame| match frame.damage {
            Damage::Cached => report.cached += 1,
            Damage::Copy => report.copies += 1,
            Damage::Description => report.descriptions += 1,
            Damage::Only => drop(lost.insert(frame.fingerprint)),
        });
        report.is_whole = watch.is_wanted();
        (report.frames, report.bytes) = (scrubbed.frames, scrubbed.bytes);
        report.unread_frames = scrubbed.unread.values().sum();
        if heal {
            self.wait_for_copies(watch);
        }
        report.lacking_copies = self.store.lacking_copies();
        // Written over or removed meanwhile, it is nobody's loss.
        lost.retain(|fingerprint| self.meta.is_referenced(*fingerprint).unwrap_or(true));
        report.lost_blocks = lost.len() as u64;
        report.lost = self.name(&lost)?;
        for part in &report.lost {
            tracing::error!(path = part.path, start = part.start, "data that exists only here is damaged");
        }
        Ok(report)
    }

    /// Waits until blocks that lack a second copy have one, as far as there are devices for it.
    pub(super) fn wait_for_copies(&self, watch: &Watch) {
        let until = Instant::now() + MENDED_WITHIN;
        self.store.mend_now();
        while self.store.lacking_copies() > 0
            && self.store.devices_in_service() > 1
            && watch.is_wanted()
            && Instant::now() < until
        {
            watch.pause(LOOK);
        }
    }

    /// The parts of files that some blocks are, neighbours together; the first of them.
    pub(super) fn name(&self, blocks: &HashSet<u64>) -> Result<Vec<LostPart>, MetaError> {
        if blocks.is_empty() {
            return Ok(Vec::new());
        }
        let block_size = u64::from(Settings::BLOCK_SIZE);
        let mut parts: Vec<LostPart> = Vec::new();
        for place in self.meta.places_of(blocks)? {
            let path = String::from_utf8_lossy(&place.path).into_owned();
            let (start, end) = (place.index * block_size, (place.index + 1) * block_size);
            match parts.last_mut().filter(|last| last.path == path && last.end == start) {
                Some(last) => last.end = end,
                None => parts.push(LostPart { path, start, end }),
            }
        }
        parts.truncate(NAMED);
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_steps_of_any_size_and_makes_up_for_a_second_at_most() {
        let mut rate = Rate::new(1000);
        let began = rate.due;
        assert_eq!(rate.after(500, began), Duration::from_millis(500));
        assert_eq!(rate.after(500, began), Duration::from_secs(1));
        // A pause of a minute is no reason for a minute's worth of reads at once.
        let later = began + Duration::from_secs(60);
        assert_eq!(rate.after(1000, later), Duration::ZERO);
        assert_eq!(rate.after(500, later), Duration::from_millis(500));
    }
}
