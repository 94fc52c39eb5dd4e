//! Setting and showing limits; counting what was there before the first of them.

use super::books::{Account, Numbers, is_over_grace};
use super::{Graces, Quotas, Spending, counts};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{FileKind, InodeRow, QuotaId, QuotaKind, QuotaLimits, QuotaRow, Usage, decode_number, encode_number};
use crate::ids::Ino;
use crate::meta::engine::{Batch, Durability, Engine, KeyRange, Order, Table};
use crate::meta::inode::{decode_inode, read_inode};
use crate::meta::rows::{Txn, damaged};
use crate::meta::{MetaError, MetaStore, Refusal};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

/// Inodes looked at in one transaction of a count.
const COUNTED_AT_ONCE: usize = 1000;

/// One quota, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose.
    pub id: QuotaId,
    /// What is used, dirty memory included.
    pub used: Usage,
    /// What may be.
    pub limits: QuotaLimits,
    /// How its soft limit of bytes stands.
    pub bytes: QuotaState,
    /// How its soft limit of inodes stands.
    pub inodes: QuotaState,
}

/// How a soft limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaState {
    /// Not exceeded, or there is none.
    Within,
    /// Exceeded; it counts as a hard one from this time on, ns since the Unix epoch.
    GraceUntil(i64),
    /// Exceeded for longer than the grace period.
    Expired,
}

fn state_of(since_ns: i64, grace_s: u64, now_ns: i64) -> QuotaState {
    match since_ns {
        0 => QuotaState::Within,
        _ if is_over_grace(since_ns, grace_s, now_ns) => QuotaState::Expired,
        _ => QuotaState::GraceUntil(
            since_ns.saturating_add(i64::try_from(grace_s.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX)),
        ),
    }
}

fn show(account: &Account, graces: Graces, now_ns: i64) -> Quota {
    let numbers: Numbers = account.numbers();
    Quota {
        id: account.id,
        used: numbers.total(),
        limits: numbers.row.limits,
        bytes: state_of(numbers.row.bytes_since_ns, graces.bytes_s, now_ns),
        inodes: state_of(numbers.row.inodes_since_ns, graces.inodes_s, now_ns),
    }
}

fn cursor_key() -> Vec<u8> {
    key::setting(Space::Internal, "quota-counted")
}

fn grace_key(kind: QuotaKind, what: &str) -> Vec<u8> {
    key::setting(Space::Internal, &format!("quota-grace-{what}-{}", kind as u8))
}

impl Quotas {
    /// The books as the rows have them.
    pub fn load(engine: &dyn Engine) -> Result<Self, MetaError> {
        let (quotas, view) = (Quotas::off(), engine.view());
        let number = |key: &[u8]| -> Result<Option<u64>, MetaError> {
            view.get(Table::Settings, key)?.map(|row| decode_number(&row).map_err(damaged(Table::Settings))).transpose()
        };
        let Some(cursor) = number(&cursor_key())? else { return Ok(quotas) };
        quotas.cursor.store(cursor, Ordering::Release);
        for kind in QuotaKind::ALL {
            let mut graces = Graces::default();
            graces.bytes_s = number(&grace_key(kind, "bytes"))?.unwrap_or(graces.bytes_s);
            graces.inodes_s = number(&grace_key(kind, "inodes"))?.unwrap_or(graces.inodes_s);
            quotas.set_graces(kind, graces);
        }
        let everything = KeyRange { start: Vec::new(), end: None };
        let mut damage = None;
        view.scan(Table::Quotas, &everything, Order::Ascending, &mut |key, row| {
            match (key::split_quota(key), QuotaRow::decode(row)) {
                (Some(id), Ok(row)) => {
                    quotas.account(id).load(row);
                    if let QuotaId::Project(dir) = id {
                        quotas.set_root(dir, true);
                    }
                }
                (id, row) => damage = Some(damaged(Table::Quotas)(unreadable(id, row.err()))),
            }
            ControlFlow::Continue(())
        })?;
        view.scan(Table::Usage, &everything, Order::Ascending, &mut |key, row| {
            match (key::split_usage(key), Usage::decode(row)) {
                (Some(id), Ok(part)) => quotas.account(id).add(part),
                (id, row) => damage = Some(damaged(Table::Usage)(unreadable(id, row.err()))),
            }
            ControlFlow::Continue(())
        })?;
        drop(view);
        quotas.turn_on();
        damage.map_or(Ok(quotas), Err)
    }
}

fn unreadable(id: Option<QuotaId>, error: Option<crate::format::rows::RowError>) -> crate::format::rows::RowError {
    error.filter(|_| id.is_some()).unwrap_or(crate::format::rows::RowError::Field("key"))
}

impl MetaStore {
    /// Sets limits; none at all ends the quota. The first ones ever turn counting on; those and every change of the set of projects
    /// have inodes counted, which takes as long as reading all that are known, and goes on after a restart.
    pub fn set_quota(&self, id: QuotaId, change: &dyn Fn(&mut QuotaLimits), now_ns: i64) -> Result<(), MetaError> {
        {
            let quotas = &self.shared.quotas;
            // From here on every transaction sees them, and none is under way that does not.
            let _gate = quotas.gate.write();
            let _alone = quotas.setting.lock();
            let account = quotas.account(id);
            let mut limits = account.numbers().row.limits;
            change(&mut limits);
            let mut batch = Batch::default();
            let (mut recount, mut root) = (!quotas.is_on(), None);
            if let QuotaId::Project(dir) = id {
                self.must_be_directory(dir)?;
                root = Some((dir, !limits.is_none())).filter(|(dir, is_root)| quotas.is_root(*dir) != *is_root);
                recount |= root.is_some();
            }
            if recount {
                batch.put(Table::Settings, cursor_key(), encode_number(0));
            }
            let row = QuotaRow { limits, ..account.numbers().row };
            put_row(&mut batch, id, row);
            self.engine().commit(batch, Durability::Durable)?;
            if let Some((dir, is_root)) = root {
                quotas.set_root(dir, is_root);
            }
            if recount {
                quotas.cursor.store(0, Ordering::Release);
                quotas.turn_on();
            }
            account.set(|held| held.limits = limits, now_ns);
        }
        self.save_timers(&[id])?;
        self.continue_counting(now_ns)
    }

    /// Sets the grace periods of a kind; they hold for timers that run already.
    pub fn set_graces(&self, kind: QuotaKind, graces: Graces) -> Result<(), MetaError> {
        let mut batch = Batch::default();
        batch.put(Table::Settings, grace_key(kind, "bytes"), encode_number(graces.bytes_s));
        batch.put(Table::Settings, grace_key(kind, "inodes"), encode_number(graces.inodes_s));
        self.engine().commit(batch, Durability::Durable)?;
        self.shared.quotas.set_graces(kind, graces);
        Ok(())
    }

    /// The grace periods of a kind.
    pub fn graces(&self, kind: QuotaKind) -> Graces {
        self.shared.quotas.graces(kind)
    }

    /// One quota; nothing used and nothing limited where there is none.
    pub fn quota(&self, id: QuotaId, now_ns: i64) -> Quota {
        let account = self.shared.quotas.known(id);
        let nothing = Quota {
            id,
            used: Usage::default(),
            limits: QuotaLimits::default(),
            bytes: QuotaState::Within,
            inodes: QuotaState::Within,
        };
        account.map_or(nothing, |account| show(&account, self.graces(id.kind()), now_ns))
    }

    /// Everybody who uses something or has limits.
    pub fn all_quotas(&self, now_ns: i64) -> Vec<Quota> {
        let all = self.shared.quotas.all();
        let shown = all.iter().map(|account| show(account, self.graces(account.id.kind()), now_ns));
        shown.filter(|quota| quota.used != Usage::default() || !quota.limits.is_none()).collect()
    }

    /// Whether inodes are still to be counted.
    pub fn is_counting(&self) -> bool {
        self.shared.quotas.cursor.load(Ordering::Acquire) != u64::MAX
    }

    /// The project that an inode is in: the directory it was set on.
    pub fn project_of(&self, ino: Ino) -> Result<Option<Ino>, MetaError> {
        let reading = self.reading();
        let projects = super::project::Projects { quotas: &self.shared.quotas, remember: false };
        let Some(row) = read_inode(&reading, ino)? else { return Ok(None) };
        Ok(match projects.of(ino, &row, &mut |dir| read_inode(&reading, dir))? {
            super::project::Found::Is(project) => project,
            super::project::Found::Nowhere => None,
        })
    }

    fn must_be_directory(&self, dir: Ino) -> Result<(), MetaError> {
        match read_inode(&self.reading(), dir)? {
            Some(InodeRow { kind: FileKind::Directory, .. }) => Ok(()),
            Some(_) => Err(Refusal::NotDirectory.into()),
            None => Err(Refusal::NotFound.into()),
        }
    }

    /// Writes what timers have become. A crash before it restarts them at the next change.
    pub(in crate::meta) fn save_timers(&self, ids: &[QuotaId]) -> Result<(), MetaError> {
        if ids.is_empty() {
            return Ok(());
        }
        let quotas = &self.shared.quotas;
        let _alone = quotas.setting.lock();
        let mut batch = Batch::default();
        for id in ids {
            let row = quotas.account(*id).numbers().row;
            put_row(&mut batch, *id, row);
        }
        Ok(self.engine().commit(batch, Durability::Process)?)
    }

    /// Counts inodes that were not counted yet, or for another project, a bounded number per transaction, until all are.
    pub fn continue_counting(&self, now_ns: i64) -> Result<(), MetaError> {
        if !self.is_counting() {
            return Ok(());
        }
        let quotas = &self.shared.quotas;
        let _alone = quotas.counting.lock();
        loop {
            let from = quotas.cursor.load(Ordering::Acquire);
            if from == u64::MAX {
                return Ok(());
            }
            let by = Spending { now_ns, ..Spending::default() };
            let next = self.transact_for(&by, |txn| count_some(txn, from))?;
            // A project that came meanwhile has set it back.
            let _ = quotas.cursor.compare_exchange(from, next, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

fn put_row(batch: &mut Batch, id: QuotaId, row: QuotaRow) {
    if row.limits.is_none() {
        batch.remove(Table::Quotas, key::quota(id));
    } else {
        batch.put(Table::Quotas, key::quota(id), row.encode());
    }
}

/// Counts the next inodes; where to go on.
fn count_some(txn: &mut Txn<'_>, from: u64) -> Result<u64, MetaError> {
    // Whoever sets the cursor back makes this a conflict, or has made this out of date.
    let stored = txn.read_plain(Table::Settings, &cursor_key())?;
    let stored = stored.as_deref().map(decode_number).transpose().map_err(damaged(Table::Settings))?;
    if stored != Some(from) {
        return Ok(from);
    }
    let (mut looked_at, mut next, mut counted) = (0, u64::MAX, Vec::new());
    let range = KeyRange { start: key::ino(Ino(from)).to_vec(), end: None };
    txn.reading().scan(Table::Inodes, &range, &mut |prefix, row| {
        let ino = key::leading_ino(prefix).unwrap_or(Ino::ROOT);
        if looked_at == COUNTED_AT_ONCE {
            next = ino.0;
            return Ok(ControlFlow::Break(()));
        }
        looked_at += 1;
        if counts(&decode_inode(row)?) {
            counted.push(ino);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    counted.into_iter().for_each(|ino| txn.recount(ino));
    txn.write_plain(Table::Settings, &cursor_key(), encode_number(next));
    Ok(next)
}
