//! Bytes that are written and not in the metadata yet. They count from the moment they are written.

use super::books::{Account, Delta, Enforce};
use super::decode_charge;
use super::project::{Found, Projects};
use crate::format::rows::{QuotaId, Usage, key};
use crate::ids::Ino;
use crate::meta::engine::Table;
use crate::meta::inode::read_inode;
use crate::meta::{MetaError, MetaStore, Refusal};
use std::sync::Arc;

/// For whom a file counts.
#[derive(Debug)]
struct Payers {
    generation: u64,
    accounts: Vec<Arc<Account>>,
}

/// What is reserved for one file. A plain value: whoever has it gives it back, or hands it to the transaction it was made for.
#[derive(Clone, Debug, Default)]
pub struct Reservation {
    payers: Option<Arc<Payers>>,
    bytes: u64,
}

impl Reservation {
    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes all of it; what is left knows for whom to reserve more.
    pub fn take(&mut self) -> Self {
        Reservation { payers: self.payers.clone(), bytes: std::mem::take(&mut self.bytes) }
    }

    /// Takes another one of the same file back.
    pub fn absorb(&mut self, other: Reservation) {
        if let Some(payers) = &self.payers {
            other.give_back();
            payers.take(other.bytes);
            self.bytes += other.bytes;
        } else {
            *self = other;
        }
    }

    /// It is not wanted any more.
    pub fn give_back(&self) {
        self.payers.iter().for_each(|payers| payers.give_back(self.bytes));
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (QuotaId, Usage)> {
        let part = Usage { bytes: self.bytes, inodes: 0 };
        self.payers.iter().flat_map(|payers| &payers.accounts).map(move |account| (account.id, part))
    }
}

impl Payers {
    fn take(&self, bytes: u64) {
        for account in &self.accounts {
            account.reserve(Usage { bytes, inodes: 0 }, Enforce::Nothing, Default::default(), 0);
        }
    }

    fn give_back(&self, bytes: u64) {
        for account in &self.accounts {
            account.settle(Usage { bytes, inodes: 0 }, Delta::default(), 0);
        }
    }
}

impl MetaStore {
    /// Reserves bytes for a file, at once and for all who pay for it, or for nobody. Who they are is read from the rows only when it may have
    /// changed since the last time.
    pub fn reserve(
        &self,
        ino: Ino,
        reservation: &mut Reservation,
        bytes: u64,
        enforce: Enforce,
        now_ns: i64,
    ) -> Result<(), MetaError> {
        let quotas = &self.shared.quotas;
        if !quotas.is_on() || bytes == 0 {
            return Ok(());
        }
        let generation = quotas.generation();
        if reservation.payers.as_ref().is_none_or(|payers| payers.generation != generation) {
            let payers = Arc::new(Payers { generation, accounts: self.payers(ino)? });
            payers.take(reservation.bytes);
            reservation.give_back();
            reservation.payers = Some(payers);
        }
        let accounts = reservation.payers.as_ref().map_or(&[][..], |payers| &payers.accounts);
        let more = Usage { bytes, inodes: 0 };
        for (passed, account) in accounts.iter().enumerate() {
            if !account.reserve(more, enforce, quotas.graces(account.id.kind()), now_ns) {
                for before in &accounts[..passed] {
                    before.settle(more, Delta::default(), 0);
                }
                return Err(Refusal::OverQuota(account.id).into());
            }
        }
        reservation.bytes += bytes;
        Ok(())
    }

    fn payers(&self, ino: Ino) -> Result<Vec<Arc<Account>>, MetaError> {
        let quotas = &self.shared.quotas;
        let reading = self.reading();
        let Some(row) = read_inode(&reading, ino)? else { return Ok(Vec::new()) };
        let charged = reading.view.get(Table::Charges, &key::ino(ino))?.map(|row| decode_charge(&row)).transpose()?;
        // Without the gate, which the caller's locks forbid: nothing is remembered of it.
        let projects = Projects { quotas, remember: false };
        let project = match projects.of(ino, &row, &mut |dir| read_inode(&reading, dir))? {
            Found::Is(project) => project,
            Found::Nowhere => charged.and_then(|charge| charge.project),
        };
        let ids = [Some(QuotaId::User(row.uid)), Some(QuotaId::Group(row.gid)), project.map(QuotaId::Project)];
        Ok(ids.into_iter().flatten().map(|id| quotas.account(id)).collect())
    }

    /// Whether a file could have so many bytes more, which nobody reserves.
    pub fn could_reserve(&self, ino: Ino, bytes: u64, enforce: Enforce, now_ns: i64) -> Result<(), MetaError> {
        let mut trial = Reservation::default();
        self.reserve(ino, &mut trial, bytes, enforce, now_ns)?;
        trial.give_back();
        Ok(())
    }
}
