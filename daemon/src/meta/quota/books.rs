//! What everybody uses and may use, in memory. Every check is a few locked numbers.

use super::Graces;
use crate::format::rows::{Limit, QuotaId, QuotaKind, QuotaRow, Usage};
use crate::ids::Ino;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Directories whose project is remembered, at most.
const REMEMBERED: usize = 65_536;
const NS: i64 = 1_000_000_000;

/// Whose limits an operation is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforce {
    /// Everybody's.
    Everything,
    /// Those of projects: for root, whom limits of users and groups do not bind, as on Linux.
    Projects,
    /// Nobody's: for what cannot be refused.
    #[default]
    Nothing,
}

/// A change of usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::meta) struct Delta {
    pub bytes: i64,
    pub inodes: i64,
}

/// One user's, group's or project's books.
#[derive(Debug)]
pub(in crate::meta) struct Account {
    pub id: QuotaId,
    numbers: Mutex<Numbers>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::meta) struct Numbers {
    /// As the usage rows have it.
    pub used: Usage,
    /// Written and not in the rows yet.
    pub reserved: Usage,
    /// Limits and timers.
    pub row: QuotaRow,
}

impl Numbers {
    /// All that is used, or about to be.
    pub fn total(&self) -> Usage {
        Usage { bytes: self.used.bytes + self.reserved.bytes, inodes: self.used.inodes + self.reserved.inodes }
    }

    fn admits(&self, more: Usage, graces: Graces, now_ns: i64) -> bool {
        let (total, row) = (self.total(), &self.row);
        let fits = |used: u64, more: u64, limit: Limit, since_ns: i64, grace_s: u64| {
            let wanted = used.saturating_add(more);
            let hard = limit.hard == 0 || wanted <= limit.hard;
            let soft = limit.soft == 0 || wanted <= limit.soft || !is_over_grace(since_ns, grace_s, now_ns);
            more == 0 || (hard && soft)
        };
        fits(total.bytes, more.bytes, row.limits.bytes, row.bytes_since_ns, graces.bytes_s)
            && fits(total.inodes, more.inodes, row.limits.inodes, row.inodes_since_ns, graces.inodes_s)
    }

    /// Starts and stops the timers as usage asks; whether one changed. `now_ns` of 0: none can be started.
    fn run_timers(&mut self, now_ns: i64) -> bool {
        let before = self.row;
        let (used, row) = (self.used, &mut self.row);
        for (used, limit, since_ns) in
            [(used.bytes, row.limits.bytes, &mut row.bytes_since_ns), (used.inodes, row.limits.inodes, &mut row.inodes_since_ns)]
        {
            let is_over = limit.soft != 0 && used > limit.soft;
            match (is_over, *since_ns) {
                (true, 0) => *since_ns = now_ns,
                (false, _) => *since_ns = 0,
                _ => {}
            }
        }
        self.row != before
    }
}

/// Whether a soft limit exceeded since then counts as a hard one by now.
pub(in crate::meta) fn is_over_grace(since_ns: i64, grace_s: u64, now_ns: i64) -> bool {
    since_ns != 0 && now_ns.saturating_sub(since_ns) / NS >= i64::try_from(grace_s).unwrap_or(i64::MAX)
}

fn add(count: &mut u64, change: i64) {
    *count = count.saturating_add_signed(change);
}

impl Account {
    fn new(id: QuotaId) -> Self {
        Account { id, numbers: Mutex::default() }
    }

    pub fn numbers(&self) -> Numbers {
        *self.numbers.lock()
    }

    /// Reserves, unless limits that hold forbid it.
    pub fn reserve(&self, more: Usage, enforce: Enforce, graces: Graces, now_ns: i64) -> bool {
        let mut numbers = self.numbers.lock();
        if enforce.holds_for(self.id.kind()) && !numbers.admits(more, graces, now_ns) {
            return false;
        }
        numbers.reserved.bytes += more.bytes;
        numbers.reserved.inodes += more.inodes;
        true
    }

    /// What was reserved is used, or not wanted; and what else has changed. Whether a timer did.
    pub fn settle(&self, reserved: Usage, delta: Delta, now_ns: i64) -> bool {
        let mut numbers = self.numbers.lock();
        numbers.reserved.bytes = numbers.reserved.bytes.saturating_sub(reserved.bytes);
        numbers.reserved.inodes = numbers.reserved.inodes.saturating_sub(reserved.inodes);
        add(&mut numbers.used.bytes, delta.bytes);
        add(&mut numbers.used.inodes, delta.inodes);
        delta != Delta::default() && numbers.run_timers(now_ns)
    }

    /// Takes over what the rows have.
    pub fn load(&self, row: QuotaRow) {
        self.numbers.lock().row = row;
    }

    /// Adds a part of what the rows have.
    pub fn add(&self, part: Usage) {
        let mut numbers = self.numbers.lock();
        numbers.used.bytes += part.bytes;
        numbers.used.inodes += part.inodes;
    }

    /// Changes limits.
    pub fn set(&self, change: impl FnOnce(&mut QuotaRow), now_ns: i64) -> QuotaRow {
        let mut numbers = self.numbers.lock();
        change(&mut numbers.row);
        numbers.run_timers(now_ns);
        numbers.row
    }
}

/// Everybody's books.
pub(in crate::meta) struct Quotas {
    on: AtomicBool,
    /// Rises when an inode may count for somebody else than before.
    generation: AtomicU64,
    /// The next inode to be counted; the end of numbers once all are.
    pub cursor: AtomicU64,
    accounts: RwLock<HashMap<QuotaId, Arc<Account>>>,
    graces: RwLock<[Graces; 3]>,
    /// The directories of projects.
    roots: RwLock<BTreeSet<Ino>>,
    has_roots: AtomicBool,
    /// Projects of directories, as far as they were asked for.
    found: RwLock<HashMap<Ino, Option<Ino>>>,
    /// Held for reading by transactions, for writing while what they count by changes.
    pub gate: RwLock<()>,
    /// One change of limits at a time.
    pub setting: Mutex<()>,
    /// One count at a time.
    pub counting: Mutex<()>,
}

impl Quotas {
    pub fn off() -> Self {
        Quotas {
            on: AtomicBool::new(false),
            generation: AtomicU64::new(1),
            cursor: AtomicU64::new(u64::MAX),
            accounts: RwLock::default(),
            graces: RwLock::default(),
            roots: RwLock::default(),
            has_roots: AtomicBool::new(false),
            found: RwLock::default(),
            gate: RwLock::default(),
            setting: Mutex::default(),
            counting: Mutex::default(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    pub fn turn_on(&self) {
        self.on.store(true, Ordering::Release);
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whoever remembers for whom something counts has to look again.
    pub fn owners_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub fn account(&self, id: QuotaId) -> Arc<Account> {
        if let Some(account) = self.accounts.read().get(&id) {
            return Arc::clone(account);
        }
        Arc::clone(self.accounts.write().entry(id).or_insert_with(|| Arc::new(Account::new(id))))
    }

    /// The account, if there is one.
    pub fn known(&self, id: QuotaId) -> Option<Arc<Account>> {
        self.accounts.read().get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.accounts.read().values().cloned().collect();
        all.sort_by_key(|account| account.id);
        all
    }

    pub fn graces(&self, kind: QuotaKind) -> Graces {
        self.graces.read()[kind as usize]
    }

    pub fn set_graces(&self, kind: QuotaKind, graces: Graces) {
        self.graces.write()[kind as usize] = graces;
    }

    pub fn has_roots(&self) -> bool {
        self.has_roots.load(Ordering::Acquire)
    }

    pub fn is_root(&self, dir: Ino) -> bool {
        self.has_roots() && self.roots.read().contains(&dir)
    }

    /// A project comes or goes. With the gate held for writing, or where nothing can be in it.
    pub fn set_root(&self, dir: Ino, is_root: bool) {
        let mut roots = self.roots.write();
        if is_root {
            roots.insert(dir);
        } else {
            roots.remove(&dir);
        }
        self.has_roots.store(!roots.is_empty(), Ordering::Release);
        drop(roots);
        self.forget_projects();
    }

    /// Directories have moved, or projects changed.
    pub fn forget_projects(&self) {
        self.found.write().clear();
        self.owners_changed();
    }

    pub fn remembered(&self, dir: Ino) -> Option<Option<Ino>> {
        self.found.read().get(&dir).copied()
    }

    pub fn remember(&self, dirs: &[Ino], project: Option<Ino>) {
        let mut found = self.found.write();
        if found.len() + dirs.len() > REMEMBERED {
            found.clear();
        }
        found.extend(dirs.iter().map(|dir| (*dir, project)));
    }
}
