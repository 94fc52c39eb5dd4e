//! The metadata against the blocks.
//!
//! What is checked, after the metadata in itself ([`crate::meta::check`]): every block that is referred to is on a device, held, and with two copies on two; nothing is held that is not
//! referred to.
//!
//! Invariants:
//! 1. A block is told of only after a second look at it with references locked, at which what is on its way is counted as what it will be: put and not yet
//!    recorded, or let go of by a commit that is not durable yet.
//! 2. A repair is one transaction, and what follows from it in the block store is done before anybody else changes references.

use super::{FsckReport, Watch};
use crate::block::BlockStore;
use crate::cache::Cache;
use crate::ids::Ino;
use crate::meta::MetaError;
use crate::meta::check::Violation;
use std::collections::HashSet;

/// Rounds of repairs: one may show what another hid.
const ROUNDS: usize = 4;
/// Counts of references put right in one transaction.
const COUNTS: usize = 10_000;

/// What to check and do.
#[derive(Clone, Copy, Debug)]
pub struct FsckOptions {
    /// Whether to repair.
    pub repair: bool,
    /// Whether to read all data as well; so many bytes a second.
    pub data: Option<u64>,
    /// Whether a mounted file system is checked: it knows which blocks are held, and can heal.
    pub is_mounted: bool,
    /// Copies that there are to be of what exists only here.
    pub copies: u8,
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It is on no device.
    Missing,
    /// Only on devices that are out of service.
    OutOfReach,
    /// It may be dropped.
    NotHeld,
    /// It has one copy and should have two.
    OneCopy,
    /// It is held, and nothing refers to it.
    Leaked,
}

impl Cache {
    /// Checks the metadata and the blocks against each other. `told` gets the names that a repair made or took.
    pub fn fsck(
        &self,
        options: &FsckOptions,
        now_ns: i64,
        watch: &Watch,
        told: &mut dyn FnMut(Ino, &[u8]),
    ) -> Result<FsckReport, MetaError> {
        let mut report = FsckReport::default();
        let counts_hold = self.check_metadata(options, now_ns, watch, &mut report, told)?;
        self.check_blocks(options, counts_hold, watch, &mut report)?;
        if let Some(rate) = options.data {
            // What is missing was told of already.
            report.data = Some(self.scrub_stored(options.repair && options.is_mounted, rate, watch, HashSet::new())?);
        }
        report.is_whole = watch.is_wanted();
        Ok(report)
    }

    /// Whether the counts of references are right by now, as far as can be told.
    fn check_metadata(
        &self,
        options: &FsckOptions,
        now_ns: i64,
        watch: &Watch,
        report: &mut FsckReport,
        told: &mut dyn FnMut(Ino, &[u8]),
    ) -> Result<bool, MetaError> {
        let look = || self.meta.check_while(&|| watch.is_wanted());
        let (mut all, mut left) = (Vec::new(), look()?);
        for _ in 0..ROUNDS {
            all.extend(left.iter().filter(|violation| !all.contains(*violation)).cloned().collect::<Vec<_>>());
            if !options.repair || left.is_empty() || !watch.is_wanted() {
                break;
            }
            self.repair_all(&left, now_ns, told)?;
            let again = look()?;
            if again == left {
                break;
            }
            left = again;
        }
        if options.repair && !all.is_empty() {
            self.make_durable()?;
        }
        let is_of_counts =
            |violation: &Violation| matches!(violation, Violation::WrongReferences { .. } | Violation::DamagedRow { .. });
        let counts_hold = watch.is_wanted() && !left.iter().any(is_of_counts);
        let left: HashSet<String> = left.iter().map(ToString::to_string).collect();
        for violation in all {
            let what = violation.to_string();
            let repaired = !left.contains(&what);
            report.add(what, repaired && options.repair && watch.is_wanted());
        }
        Ok(counts_hold)
    }

    fn repair_all(&self, violations: &[Violation], now_ns: i64, told: &mut dyn FnMut(Ino, &[u8])) -> Result<(), MetaError> {
        let wrong_count = |violation: &Violation| match violation {
            Violation::WrongReferences { fingerprint, .. } => Some(*fingerprint),
            _ => None,
        };
        let counts: Vec<u64> = violations.iter().filter_map(wrong_count).collect();
        for some in counts.chunks(COUNTS) {
            let _references = self.references.lock();
            let repaired = self.meta.repair_references(some)?;
            for fingerprint in &repaired.referred {
                self.store.hold(*fingerprint);
            }
            self.release(&repaired.released);
        }
        for violation in violations.iter().filter(|violation| wrong_count(violation).is_none()) {
            let _references = self.references.lock();
            match self.meta.repair(violation, now_ns) {
                Ok(repaired) => {
                    self.release(&repaired.released);
                    repaired.names.iter().for_each(|(parent, name)| told(*parent, name));
                }
                // It is told of as not repaired.
                Err(error @ MetaError::Refused(_)) => tracing::warn!(%violation, %error, "this could not be repaired"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn check_blocks(
        &self,
        options: &FsckOptions,
        counts_hold: bool,
        watch: &Watch,
        report: &mut FsckReport,
    ) -> Result<(), MetaError> {
        watch.expect(BlockStore::PARTS as u64);
        let (mut missing, mut one_copy) = (HashSet::new(), 0);
        for part in (0..BlockStore::PARTS).take_while(|_| watch.is_wanted()) {
            watch.advance(1);
            for fingerprint in self.suspects(part, options, report)? {
                let _references = self.references.lock();
                let Some(wrong) = self.wrong_with(fingerprint, options)? else { continue };
                match wrong {
                    Wrong::Missing => drop(missing.insert(fingerprint)),
                    Wrong::OneCopy => one_copy += 1,
                    Wrong::OutOfReach => {
                        report.add(format!("block {fingerprint:016x} is only on a device that is out of service"), false);
                    }
                    Wrong::NotHeld => {
                        let repaired = options.repair && self.store.hold(fingerprint);
                        report.add(format!("block {fingerprint:016x} exists only here and could be dropped"), repaired);
                    }
                    Wrong::Leaked => {
                        // With wrong counts, something may refer to it all the same.
                        let repaired = options.repair && counts_hold;
                        if repaired {
                            self.store.release(fingerprint);
                        }
                        report.add(format!("block {fingerprint:016x} is held and nothing refers to it"), repaired);
                    }
                }
            }
        }
        if one_copy > 0 {
            let may_mend = options.repair && options.is_mounted;
            if may_mend {
                self.wait_for_copies(watch);
            }
            let what = format!("{one_copy} blocks that exist only here have one copy, and should have two");
            report.add(what, may_mend && self.store.lacking_copies() == 0);
        }
        report.missing_blocks = missing.len() as u64;
        report.missing = self.name(&missing)?;
        Ok(())
    }

    /// Blocks of a part that something seems to be wrong with; without a lock, so that it may only seem so.
    fn suspects(&self, part: usize, options: &FsckOptions, report: &mut FsckReport) -> Result<Vec<u64>, MetaError> {
        let mut referred = HashSet::new();
        self.meta.references_in(&BlockStore::part(part), &mut |fingerprint| {
            referred.insert(fingerprint);
        })?;
        report.held_blocks += referred.len() as u64;
        let held = if options.is_mounted { self.store.held_in(part) } else { Vec::new() };
        let on_their_way = self.on_their_way_out();
        let is_known = |fingerprint: &u64| referred.contains(fingerprint) || on_their_way.contains(fingerprint);
        let mut suspects: Vec<u64> = held.into_iter().filter(|fingerprint| !is_known(fingerprint)).collect();
        for fingerprint in referred {
            if self.wrong_with(fingerprint, options)?.is_some() {
                suspects.push(fingerprint);
            }
        }
        Ok(suspects)
    }

    /// Blocks that exist only here and are on no device.
    pub(super) fn missing_blocks(&self, watch: &Watch) -> Result<HashSet<u64>, MetaError> {
        let mut missing = HashSet::new();
        for part in (0..BlockStore::PARTS).take_while(|_| watch.is_wanted()) {
            let mut absent = Vec::new();
            let is_absent = |fingerprint: u64| self.store.holding(fingerprint).copies == 0;
            self.meta.references_in(&BlockStore::part(part), &mut |fingerprint| {
                absent.extend(is_absent(fingerprint).then_some(fingerprint));
            })?;
            for fingerprint in absent {
                let _references = self.references.lock();
                if self.meta.is_referenced(fingerprint)? && is_absent(fingerprint) {
                    missing.insert(fingerprint);
                }
            }
        }
        Ok(missing)
    }

    fn wrong_with(&self, fingerprint: u64, options: &FsckOptions) -> Result<Option<Wrong>, MetaError> {
        let holding = self.store.holding(fingerprint);
        if !self.meta.is_referenced(fingerprint)? {
            let is_leaked = options.is_mounted && holding.held && !holding.claimed && !self.may_be_referenced(fingerprint);
            return Ok(is_leaked.then_some(Wrong::Leaked));
        }
        Ok(match holding {
            holding if holding.copies == 0 => Some(Wrong::Missing),
            holding if holding.in_reach == 0 => Some(Wrong::OutOfReach),
            holding if options.is_mounted && !holding.held => Some(Wrong::NotHeld),
            holding if holding.in_reach < options.copies => Some(Wrong::OneCopy),
            _ => None,
        })
    }
}
