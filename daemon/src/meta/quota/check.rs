//! Counting everything again, and comparing; for fsck and the tests.

use super::project::{Found, Projects};
use super::{Quotas, chunk_bytes, counts, decode_charge};
use crate::format::rows::{Charge, QuotaId, Usage, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Order, Table};
use crate::meta::inode::{decode_inode, read_inode};
use crate::meta::map::decode_chunk;
use crate::meta::rows::Reading;
use crate::meta::{MetaError, MetaStore};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A broken invariant of quotas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaViolation {
    /// An inode counts otherwise than it should.
    #[error("{ino} counts as {found:?} and should as {expected:?}")]
    WrongCharge {
        /// The inode.
        ino: Ino,
        /// What its row says.
        found: Option<Charge>,
        /// What it should.
        expected: Option<Charge>,
    },
    /// Usage is not the sum of what counts.
    #[error("usage of {id} is {found:?} in {place} and should be {expected:?}")]
    WrongUsage {
        /// Whose.
        id: QuotaId,
        /// In the rows or in memory.
        place: &'static str,
        /// What is there.
        found: Usage,
        /// What should be.
        expected: Usage,
    },
}

impl MetaStore {
    /// Counts everything again; where that is not what was counted. Reads everything, while nothing else changes anything.
    pub fn check_quotas(&self) -> Result<Vec<QuotaViolation>, MetaError> {
        let quotas = &self.shared.quotas;
        if !quotas.is_on() || self.is_counting() {
            return Ok(Vec::new());
        }
        let _still = quotas.gate.write();
        let reading = self.reading();
        let mut violations = Vec::new();
        let mut sums = check_charges(quotas, &reading, &mut violations)?;
        let mut rows: BTreeMap<QuotaId, Usage> = BTreeMap::new();
        let everything = KeyRange { start: Vec::new(), end: None };
        reading.view.scan(Table::Usage, &everything, Order::Ascending, &mut |key, row| {
            if let (Some(id), Ok(part)) = (key::split_usage(key), Usage::decode(row)) {
                add(&mut rows, id, part);
            }
            ControlFlow::Continue(())
        })?;
        let memory = quotas.all().into_iter().map(|account| (account.id, account.numbers().used)).collect();
        for (place, found) in [("the rows", rows), ("memory", memory)] {
            for (id, found) in &found {
                let expected = sums.entry(*id).or_default();
                if expected != found {
                    violations.push(QuotaViolation::WrongUsage { id: *id, place, found: *found, expected: *expected });
                }
            }
            for (id, expected) in sums.iter().filter(|(id, sum)| **sum != Usage::default() && !found.contains_key(id)) {
                let found = Usage::default();
                violations.push(QuotaViolation::WrongUsage { id: *id, place, found, expected: *expected });
            }
        }
        Ok(violations)
    }
}

fn add(sums: &mut BTreeMap<QuotaId, Usage>, id: QuotaId, part: Usage) {
    let sum = sums.entry(id).or_default();
    sum.bytes += part.bytes;
    sum.inodes += part.inodes;
}

/// Checks every charge row; the sums of what they should be.
fn check_charges(
    quotas: &Quotas,
    reading: &Reading<'_>,
    violations: &mut Vec<QuotaViolation>,
) -> Result<BTreeMap<QuotaId, Usage>, MetaError> {
    let mut sums = BTreeMap::new();
    let mut found: BTreeMap<Ino, Charge> = BTreeMap::new();
    let everything = KeyRange { start: Vec::new(), end: None };
    let mut failure = None;
    reading.view.scan(Table::Charges, &everything, Order::Ascending, &mut |key, row| {
        match decode_charge(row) {
            Ok(charge) => drop(found.insert(key::leading_ino(key).unwrap_or(Ino(0)), charge)),
            Err(error) => failure = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(()), Err)?;
    reading.scan(Table::Inodes, &everything, &mut |prefix, row| {
        let (ino, row) = (key::leading_ino(prefix).unwrap_or(Ino(0)), decode_inode(row)?);
        let charge = found.remove(&ino);
        let expected = if counts(&row) {
            let projects = Projects { quotas, remember: false };
            let project = match projects.of(ino, &row, &mut |dir| read_inode(reading, dir))? {
                Found::Is(project) => project,
                Found::Nowhere => charge.and_then(|charge| charge.project),
            };
            Some(Charge { uid: row.uid, gid: row.gid, bytes: bytes_of(reading, ino, row.size)?, project })
        } else {
            None
        };
        if charge != expected {
            violations.push(QuotaViolation::WrongCharge { ino, found: charge, expected });
        }
        for (id, charge) in expected.iter().flat_map(|charge| charge.ids().map(move |id| (id, charge))) {
            add(&mut sums, id, Usage { bytes: charge.bytes, inodes: 1 });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    violations.extend(found.into_iter().map(|(ino, charge)| QuotaViolation::WrongCharge {
        ino,
        found: Some(charge),
        expected: None,
    }));
    Ok(sums)
}

fn bytes_of(reading: &Reading<'_>, ino: Ino, size: u64) -> Result<u64, MetaError> {
    let mut sum = 0;
    reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let number = prefix.get(8..).and_then(key::leading_ino).map_or(0, |number| number.0);
        sum += chunk_bytes(number, &decode_chunk(row)?, size);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(sum)
}
