//! Associations: which directory is linked to which bucket, and what goes between the two by itself.
//!
//! The root's is made by `mount`; others are made, changed and deleted while the file system is in use (`create`, `delete`). `registry` is the table in memory that
//! every operation asks; the rows are [`crate::meta::AssociationRow`].
//!
//! Invariants:
//! 1. No association's directory is in another's, and no two have prefixes of which one begins with the other.
//! 2. The directory of an association, and those above it, stay where they are (`EBUSY`): where an object belongs follows from its key alone.
//! 3. What is below the directory of an association that is deleted without its files is all here before the link goes.

mod create;
mod delete;
mod registry;

pub use create::{NewAssociation, RootAssociation};
pub use registry::AssociationView;
pub(super) use registry::{Association, Associations};

use super::{Inner, Vfs, metadata_error};
use crate::config::{AutoExport, OnConflict};
use crate::error::{Error, ErrorKind, Result};
use crate::format::located::association_of;
use crate::ids::{AssociationId, Ino};
use crate::meta::{AssociationRow, AssociationState, EventBits, MetaError, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// How often an association that could not be used is looked at again.
const RECHECK: Duration = Duration::from_secs(30);

/// The option that names the queue of a bucket's events.
pub const EVENT_QUEUE_URL: &str = "event-queue-url";

/// What an association is changed to; `None` leaves it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AssociationChange {
    /// What is imported by itself.
    pub auto_import: Option<EventBits>,
    /// What is exported by itself.
    pub auto_export: Option<EventBits>,
    /// What automatic export does about conflicts.
    pub on_conflict: Option<OnConflict>,
}

impl AssociationChange {
    fn apply(&self, row: &mut AssociationRow) {
        row.auto_import = self.auto_import.unwrap_or(row.auto_import);
        row.auto_export = self.auto_export.unwrap_or(row.auto_export);
        row.on_conflict = self.on_conflict.map_or(row.on_conflict, OnConflict::code);
    }
}

impl Vfs {
    /// Sets whom to tell that an association was made, changed or deleted.
    pub fn on_change_of_associations(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.0.associations.set_listener(listener);
    }

    /// Every association, in the order of their paths.
    pub fn associations(&self) -> Vec<AssociationView> {
        let mut all: Vec<_> =
            self.0.associations.all().iter().map(|association| association.view(self.0.config.store_deadline)).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Whether anything is exported by itself.
    pub fn exports_by_itself(&self) -> bool {
        self.0.associations.exports_anything()
    }

    /// The association of exactly this directory.
    pub async fn association_at(&self, path: &[u8]) -> Result<AssociationView> {
        let ino = self.0.walk(path).await?;
        self.0.association_of_directory(ino).map(|association| association.view(self.0.config.store_deadline))
    }

    /// Looks whether the buckets of associations can be used, and notes what came out.
    pub async fn check_associations(&self) {
        self.0.check_associations(false).await;
    }

    /// Changes what goes by itself.
    pub async fn update_association(&self, path: &[u8], change: AssociationChange) -> Result<AssociationView> {
        let inner = &self.0;
        let ino = inner.walk(path).await?;
        let _alone = inner.associations.alone().await;
        let association = inner.association_of_directory(ino)?;
        if association.row.state == AssociationState::Deleting {
            return Err(Error::new(ErrorKind::Busy, format!("'{}' is being deleted", association.shown())));
        }
        let state = association.row.state;
        inner.note(&association, |row| row.state = AssociationState::Updating)?;
        let updated = inner.note(&association, |row| {
            change.apply(row);
            row.state = state;
        })?;
        inner.make_durable().await?;
        inner.auto.read_again();
        Ok(updated.view(inner.config.store_deadline))
    }
}

impl Inner {
    fn association_of_directory(&self, ino: Ino) -> Result<Arc<Association>> {
        let none = || {
            Error::new(ErrorKind::NotFound, "it is not the directory of an association; 'forebay dra list' shows them".to_owned())
        };
        self.associations.at(ino).ok_or_else(none)
    }

    /// Changes an association's row, on disk and in memory.
    fn note(&self, association: &Association, change: impl FnOnce(&mut AssociationRow)) -> Result<Arc<Association>> {
        let mut row = association.row.clone();
        change(&mut row);
        self.meta.save_association(association.id, &row, &association.prefix).map_err(metadata_error)?;
        Ok(self.associations.enter(Association { row, ..association.clone() }))
    }

    /// Makes what was committed so far durable, on a thread that may block.
    pub(super) async fn make_durable(self: &Arc<Self>) -> Result<()> {
        let inner = Arc::clone(self);
        let flushed = self.runtime.spawn_blocking(move || inner.meta.flush().map_err(metadata_error)).await;
        flushed.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }

    /// The association that a located key or prefix is of, if there is one.
    pub(super) fn association_of_key(&self, key: &str) -> Option<Arc<Association>> {
        self.associations.get(association_of(key))
    }

    /// What is exported by itself to the bucket of a key: nothing while that cannot be used.
    pub(super) fn auto_export_to(&self, key: &str) -> AutoExport {
        let usable = |association: &Arc<Association>| {
            matches!(association.row.state, AssociationState::Available | AssociationState::Updating)
        };
        self.association_of_key(key).filter(usable).map(|association| association.auto_export()).unwrap_or_default()
    }

    /// Whether anything can be exported to the bucket of a key.
    pub(super) fn is_export_possible(&self, key: &str) -> bool {
        self.association_of_key(key).is_some_and(|association| association.row.state != AssociationState::Deleting)
    }

    /// The path below the root of the name that a key belongs to; `None` if no association has the key.
    pub(super) fn path_of_key(&self, key: &str) -> Option<Vec<u8>> {
        let association = self.association_of_key(key)?;
        let below = key.strip_prefix(association.prefix.as_str())?.as_bytes();
        Some(join(&association.path, below))
    }

    /// Whether a directory must stay where it is.
    pub(super) fn must_stay(&self, parent: Ino, name: &[u8]) -> std::result::Result<(), MetaError> {
        if self.associations.holds_none_but_the_root() {
            return Ok(());
        }
        let found = self.meta.lookup(parent, name)?;
        let must_stay = found.is_some_and(|dirent| self.associations.holds_in_place(dirent.ino));
        if must_stay { Err(Refusal::Linked.into()) } else { Ok(()) }
    }

    /// Looks again at associations that cannot be used, for as long as the file system runs.
    pub(super) async fn watch_associations(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RECHECK).await;
            self.check_associations(true).await;
        }
    }

    async fn check_associations(self: &Arc<Self>, only_misconfigured: bool) {
        for association in self.associations.all() {
            let state = association.row.state;
            let is_due = match state {
                AssociationState::Misconfigured | AssociationState::Creating => true,
                AssociationState::Available => !only_misconfigured,
                AssociationState::Updating | AssociationState::Deleting | AssociationState::Failed => false,
            };
            if is_due {
                self.check_one(&association).await;
            }
        }
    }

    async fn check_one(self: &Arc<Self>, association: &Association) {
        let outcome = self.reach(association).await;
        let _alone = self.associations.alone().await;
        // What somebody made of it meanwhile counts.
        let Some(now) = self.associations.get(association.id).filter(|now| now.row == association.row) else { return };
        let (state, failure) = match outcome {
            Ok(()) => (AssociationState::Available, String::new()),
            Err(why) => (AssociationState::Misconfigured, why),
        };
        if (now.row.state, &now.row.failure) == (state, &failure) {
            return;
        }
        if state == AssociationState::Misconfigured {
            tracing::warn!(association = %now.id, path = now.shown(), failure, "a bucket cannot be used");
        } else {
            tracing::info!(association = %now.id, path = now.shown(), "the bucket can be used");
        }
        if let Err(error) = self.note(&now, |row| (row.state, row.failure) = (state, failure)) {
            tracing::error!(%error, "the state of an association could not be recorded");
        }
        self.auto.read_again();
    }

    /// Opens an association's store if it is not, and asks for a listing; why not, if it cannot be used.
    async fn reach(&self, association: &Association) -> std::result::Result<(), String> {
        if !self.repository.is_linked(association.id) {
            let settings = association.settings(self.config.store_deadline);
            let (store, _) = crate::repository::open(&settings).map_err(|error| error.to_string())?;
            self.repository.link(association.id, store);
            self.directories.forget_all();
        }
        self.repository.check_access(&association.prefix).await.map_err(|error| error.to_string())
    }
}

/// A path and what is below it.
fn join(path: &[u8], below: &[u8]) -> Vec<u8> {
    let below = below.strip_suffix(b"/").unwrap_or(below);
    match (path.is_empty(), below.is_empty()) {
        (true, _) => below.to_vec(),
        (_, true) => path.to_vec(),
        _ => [path, b"/", below].concat(),
    }
}

/// The root's prefix where nothing is linked to it.
pub(super) fn nowhere() -> String {
    crate::format::located::locate(AssociationId::NONE, "")
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn paths_are_joined_without_empty_parts() {
        for (path, below, want) in [("", "a/b", "a/b"), ("d", "a/", "d/a"), ("d/e", "", "d/e"), ("", "", "")] {
            assert_eq!(join(path.as_bytes(), below.as_bytes()), want.as_bytes());
        }
    }
}
