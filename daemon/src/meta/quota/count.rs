//! What a transaction does to usage, derived from what it writes: no operation can forget to say.

use super::books::{Account, Delta, Enforce};
use super::project::{Found, Projects};
use super::reserve::Reservation;
use super::{BLOCK, Quotas, chunk_bytes, counts, decode_charge};
use crate::format::rows::{BLOCKS_PER_CHUNK, Charge, InodeRow, MapChunk, QuotaId, Usage, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Table};
use crate::meta::inode::{decode_inode, read_inode};
use crate::meta::map::decode_chunk;
use crate::meta::rows::{Txn, damaged};
use crate::meta::{MetaError, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Usage of one user is kept in so many rows, by inode: else all that one user does at a time would be in conflict.
const SHARDS: u64 = 16;

/// How a transaction is to be counted.
#[derive(Clone, Copy, Default)]
pub(in crate::meta) struct Spending<'a> {
    /// Whose limits may refuse it.
    pub enforce: Enforce,
    /// When; 0 if it cannot be what begins a grace period.
    pub now_ns: i64,
    /// What was reserved for it.
    pub reserved: &'a [Reservation],
    /// The gate is held for writing.
    pub alone: bool,
    /// No other transaction runs meanwhile.
    pub alone_in_turn: bool,
}

/// What a transaction under way changes.
#[derive(Default)]
pub(in crate::meta) struct Entry {
    deltas: BTreeMap<QuotaId, Delta>,
    held: Vec<(Arc<Account>, Usage)>,
    roots_gone: Vec<Ino>,
    owners_change: bool,
}

/// An inode that a transaction writes something of.
#[derive(Default)]
struct Touched {
    /// Its row as it will be; the outer `None`: as it is.
    row: Option<Option<InodeRow>>,
    chunks: BTreeMap<u64, MapChunk>,
}

/// Counts what a transaction has written, and reserves it where limits allow.
pub(in crate::meta) fn count(quotas: &Quotas, txn: &mut Txn<'_>, by: &Spending<'_>, entry: &mut Entry) -> Result<(), MetaError> {
    let touched = touched(txn)?;
    let mut parts: BTreeMap<(QuotaId, u8), Delta> = BTreeMap::new();
    for (ino, change) in &touched {
        let at = key::ino(*ino);
        let before = txn.reading().view.get(Table::Charges, &at)?.map(|row| decode_charge(&row)).transpose()?;
        let after = charge(quotas, txn, &touched, *ino, change, before.as_ref(), by.alone)?;
        if matches!(change.row, Some(None)) && quotas.is_root(*ino) {
            txn.remove_plain(Table::Quotas, &key::quota(QuotaId::Project(*ino)));
            entry.roots_gone.push(*ino);
        }
        if before == after {
            continue;
        }
        // The transaction depends on the row it replaces.
        txn.read_plain(Table::Charges, &at)?;
        match &after {
            Some(charge) => txn.write_plain(Table::Charges, &at, charge.encode()),
            None => txn.remove_plain(Table::Charges, &at),
        }
        let owner = |charge: &Option<Charge>| charge.map(|charge| (charge.uid, charge.gid, charge.project));
        entry.owners_change |= before.is_some() && after.is_some() && owner(&before) != owner(&after);
        let shard = (ino.0 % SHARDS) as u8;
        for (charge, sign) in [(before, -1), (after, 1)] {
            for (id, charge) in charge.iter().flat_map(|charge| charge.ids().map(move |id| (id, charge))) {
                let part = parts.entry((id, shard)).or_default();
                part.bytes += sign * i64::try_from(charge.bytes).unwrap_or(i64::MAX);
                part.inodes += sign;
            }
        }
    }
    write_usage(txn, &parts)?;
    for ((id, _), part) in parts {
        let delta = entry.deltas.entry(id).or_default();
        delta.bytes += part.bytes;
        delta.inodes += part.inodes;
    }
    entry.reserve(quotas, by)
}

fn write_usage(txn: &mut Txn<'_>, parts: &BTreeMap<(QuotaId, u8), Delta>) -> Result<(), MetaError> {
    for ((id, shard), part) in parts.iter().filter(|(_, part)| **part != Delta::default()) {
        let at = key::usage(*id, *shard);
        let row = txn.read_plain(Table::Usage, &at)?;
        let mut usage = row.as_deref().map(Usage::decode).transpose().map_err(damaged(Table::Usage))?.unwrap_or_default();
        usage.bytes = usage.bytes.saturating_add_signed(part.bytes);
        usage.inodes = usage.inodes.saturating_add_signed(part.inodes);
        if usage == Usage::default() {
            txn.remove_plain(Table::Usage, &at);
        } else {
            txn.write_plain(Table::Usage, &at, usage.encode());
        }
    }
    Ok(())
}

/// The inodes that a transaction writes something of, or wants counted again.
fn touched(txn: &Txn<'_>) -> Result<BTreeMap<Ino, Touched>, MetaError> {
    let mut touched: BTreeMap<Ino, Touched> = BTreeMap::new();
    for write in txn.writes_now() {
        let (Table::Inodes | Table::FileMap) = write.table else { continue };
        let Some((prefix, ino)) =
            key::split_versioned(&write.key).and_then(|(prefix, _)| Some((prefix, key::leading_ino(prefix)?)))
        else {
            continue;
        };
        let value = write.value.as_deref().filter(|value| !crate::format::rows::is_tombstone(value));
        let change = touched.entry(ino).or_default();
        if write.table == Table::Inodes {
            change.row = Some(value.map(decode_inode).transpose()?);
        } else if let Some(number) = prefix.get(8..).and_then(key::leading_ino) {
            change.chunks.insert(number.0, value.map(decode_chunk).transpose()?.unwrap_or_default());
        }
    }
    for ino in txn.to_recount() {
        touched.entry(*ino).or_default();
    }
    Ok(touched)
}

/// For whom an inode will count, and with what.
fn charge(
    quotas: &Quotas,
    txn: &Txn<'_>,
    touched: &BTreeMap<Ino, Touched>,
    ino: Ino,
    change: &Touched,
    before: Option<&Charge>,
    alone: bool,
) -> Result<Option<Charge>, MetaError> {
    let reading = txn.reading();
    let mut old_row = None;
    let row = match &change.row {
        Some(None) => return Ok(None),
        Some(Some(row)) => row,
        None => match old_row.insert(read_inode(reading, ino)?) {
            Some(row) => row,
            None => return Ok(None),
        },
    };
    if !counts(row) {
        return Ok(None);
    }
    let bytes = match before {
        Some(charge) => charge.bytes.saturating_add_signed(bytes_change(txn, ino, row, change)?),
        None => all_bytes(txn, ino, row, change)?,
    };
    let mut row_of = |dir: Ino| match touched.get(&dir).and_then(|change| change.row.as_ref()) {
        Some(row) => Ok(row.clone()),
        None => read_inode(reading, dir),
    };
    let project = match (Projects { quotas, remember: !alone }).of(ino, row, &mut row_of)? {
        Found::Is(project) => project,
        Found::Nowhere => before.and_then(|charge| charge.project),
    };
    Ok(Some(Charge { uid: row.uid, gid: row.gid, bytes, project }))
}

fn stored_chunk(txn: &Txn<'_>, ino: Ino, number: u64) -> Result<MapChunk, MetaError> {
    let row = txn.reading().newest(Table::FileMap, &key::chunk(ino, number))?;
    Ok(row.as_deref().map(decode_chunk).transpose()?.unwrap_or_default())
}

/// By how much the bytes of an inode change: in the rows of its map that are written, and at its end, before and after.
fn bytes_change(txn: &Txn<'_>, ino: Ino, row: &InodeRow, change: &Touched) -> Result<i64, MetaError> {
    if change.row.is_none() && change.chunks.is_empty() {
        return Ok(0);
    }
    let old_size = read_inode(txn.reading(), ino)?.map_or(row.size, |row| row.size);
    if old_size == row.size && change.chunks.is_empty() {
        return Ok(0);
    }
    let mut numbers: BTreeSet<u64> = change.chunks.keys().copied().collect();
    if old_size != row.size {
        numbers.extend([old_size, row.size].map(|size| size / BLOCK / BLOCKS_PER_CHUNK));
    }
    let mut sum = 0;
    for number in numbers {
        let old = stored_chunk(txn, ino, number)?;
        let new = change.chunks.get(&number).unwrap_or(&old);
        sum += chunk_bytes(number, new, row.size).cast_signed() - chunk_bytes(number, &old, old_size).cast_signed();
    }
    Ok(sum)
}

/// The bytes of an inode that was not counted before.
fn all_bytes(txn: &Txn<'_>, ino: Ino, row: &InodeRow, change: &Touched) -> Result<u64, MetaError> {
    let mut sum: u64 = change.chunks.iter().map(|(number, chunk)| chunk_bytes(*number, chunk, row.size)).sum();
    txn.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, value| {
        let number = prefix.get(8..).and_then(key::leading_ino).map_or(0, |number| number.0);
        if !change.chunks.contains_key(&number) {
            sum += chunk_bytes(number, &decode_chunk(value)?, row.size);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(sum)
}

impl Entry {
    /// Reserves what grows. What was reserved for it before does not count twice.
    fn reserve(&mut self, quotas: &Quotas, by: &Spending<'_>) -> Result<(), MetaError> {
        if by.enforce == Enforce::Nothing {
            return Ok(());
        }
        for (id, delta) in &self.deltas {
            let more = Usage { bytes: delta.bytes.max(0).cast_unsigned(), inodes: delta.inodes.max(0).cast_unsigned() };
            if more == Usage::default() {
                continue;
            }
            let account = quotas.account(*id);
            if !account.reserve(more, by.enforce, quotas.graces(id.kind()), by.now_ns) {
                return Err(Refusal::OverQuota(*id).into());
            }
            self.held.push((account, more));
        }
        Ok(())
    }

    /// The transaction did not happen.
    pub fn undo(&mut self) {
        for (account, held) in self.held.drain(..) {
            account.settle(held, Delta::default(), 0);
        }
        *self = Entry::default();
    }

    /// The transaction happened. Returns whose timers changed: that has to be written.
    pub fn settle(self, quotas: &Quotas, by: &Spending<'_>) -> Vec<QuotaId> {
        let mut reserved: BTreeMap<QuotaId, Usage> = BTreeMap::new();
        let held = self.held.iter().map(|(account, held)| (account.id, *held));
        for (id, part) in held.chain(by.reserved.iter().flat_map(Reservation::parts)) {
            let sum = reserved.entry(id).or_default();
            sum.bytes += part.bytes;
            sum.inodes += part.inodes;
        }
        let ids: BTreeSet<QuotaId> = self.deltas.keys().chain(reserved.keys()).copied().collect();
        let timed = ids.into_iter().filter(|id| {
            let (reserved, delta) = (reserved.get(id).copied(), self.deltas.get(id).copied());
            quotas.account(*id).settle(reserved.unwrap_or_default(), delta.unwrap_or_default(), by.now_ns)
        });
        let timed = timed.collect();
        for root in &self.roots_gone {
            quotas.account(QuotaId::Project(*root)).set(|row| *row = Default::default(), 0);
            quotas.set_root(*root, false);
        }
        if self.owners_change {
            quotas.owners_changed();
        }
        timed
    }
}
