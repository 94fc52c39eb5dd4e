//! The associations in memory.

use crate::config::{AutoExport, OnConflict, RepositorySettings};
use crate::ids::{AssociationId, Ino};
use crate::meta::{AssociationRow, AssociationState, EventBits};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An association.
#[derive(Clone, Debug)]
pub(in crate::vfs) struct Association {
    pub(in crate::vfs) id: AssociationId,
    pub(in crate::vfs) row: AssociationRow,
    /// Its directory's path below the root.
    pub(in crate::vfs) path: Vec<u8>,
    /// The directories above its own.
    pub(in crate::vfs) above: Vec<Ino>,
    /// What its keys start with, located.
    pub(in crate::vfs) prefix: String,
    /// While it is deleted: files seen to.
    pub(in crate::vfs) progress: Arc<AtomicU64>,
}

/// An association, for people.
#[derive(Clone, Debug)]
pub struct AssociationView {
    /// Its number.
    pub id: AssociationId,
    /// Its directory.
    pub root: Ino,
    /// What its keys start with, located.
    pub prefix: String,
    /// How its bucket is reached.
    pub settings: RepositorySettings,
    /// Its directory's path below the root; empty for the root.
    pub path: Vec<u8>,
    /// The bucket and prefix.
    pub url: String,
    /// The same as names and values, with further options.
    pub options: BTreeMap<String, String>,
    /// Where it is in its life.
    pub state: AssociationState,
    /// Why it cannot be used, or could not be deleted.
    pub failure: String,
    /// When it was made, ns since the Unix epoch.
    pub created_ns: i64,
    /// What is imported by itself.
    pub auto_import: EventBits,
    /// What is exported by itself.
    pub auto_export: EventBits,
    /// What automatic export does about conflicts.
    pub on_conflict: OnConflict,
    /// While it is deleted: files seen to so far.
    pub deleted_files: u64,
}

impl Association {
    pub(in crate::vfs) fn auto_export(&self) -> AutoExport {
        let [new, changed, deleted] = self.row.auto_export.parts();
        AutoExport { new, changed, deleted, on_conflict: OnConflict::of_code(self.row.on_conflict) }
    }

    /// How its bucket is reached.
    pub(in crate::vfs) fn settings(&self, deadline: Duration) -> RepositorySettings {
        RepositorySettings::from_options(&self.row.url, &self.row.options, deadline)
    }

    /// Its path, for messages.
    pub(in crate::vfs) fn shown(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.path))
    }

    pub(in crate::vfs) fn view(&self, deadline: Duration) -> AssociationView {
        AssociationView {
            id: self.id,
            root: self.row.root,
            prefix: self.prefix.clone(),
            settings: self.settings(deadline),
            path: self.path.clone(),
            url: self.row.url.clone(),
            options: self.row.options.clone(),
            state: self.row.state,
            failure: self.row.failure.clone(),
            created_ns: self.row.created_ns,
            auto_import: self.row.auto_import,
            auto_export: self.row.auto_export,
            on_conflict: OnConflict::of_code(self.row.on_conflict),
            deleted_files: self.progress.load(Ordering::Relaxed),
        }
    }
}

/// The table. Read by every operation that derives a key, changed by few.
#[derive(Default)]
pub(in crate::vfs) struct Associations {
    /// Told after each change.
    listener: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    table: ArcSwap<BTreeMap<AssociationId, Arc<Association>>>,
    /// One change at a time.
    alone: tokio::sync::Mutex<()>,
}

impl Associations {
    /// Keeps others from changing the table.
    pub(in crate::vfs) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.alone.lock().await
    }

    pub(in crate::vfs) fn set_listener(&self, listener: Box<dyn Fn() + Send + Sync>) {
        *self.listener.lock() = Some(listener.into());
    }

    pub(in crate::vfs) fn forget_listener(&self) {
        self.listener.lock().take();
    }

    fn tell(&self) {
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener();
        }
    }

    pub(in crate::vfs) fn enter(&self, association: Association) -> Arc<Association> {
        let association = Arc::new(association);
        self.table.rcu(|table| {
            let mut table = BTreeMap::clone(table);
            table.insert(association.id, Arc::clone(&association));
            table
        });
        self.tell();
        association
    }

    pub(in crate::vfs) fn remove(&self, id: AssociationId) {
        self.table.rcu(|table| {
            let mut table = BTreeMap::clone(table);
            table.remove(&id);
            table
        });
        self.tell();
    }

    pub(in crate::vfs) fn all(&self) -> Vec<Arc<Association>> {
        self.table.load().values().cloned().collect()
    }

    pub(in crate::vfs) fn get(&self, id: AssociationId) -> Option<Arc<Association>> {
        self.table.load().get(&id).cloned()
    }

    /// The association whose directory an inode is.
    pub(in crate::vfs) fn at(&self, ino: Ino) -> Option<Arc<Association>> {
        self.table.load().values().find(|association| association.row.root == ino).cloned()
    }

    pub(in crate::vfs) fn holds_none_but_the_root(&self) -> bool {
        self.table.load().keys().all(|id| *id == AssociationId::ROOT)
    }

    /// Whether an inode is the directory of an association, or above one.
    pub(in crate::vfs) fn holds_in_place(&self, ino: Ino) -> bool {
        let holds = |association: &Arc<Association>| association.row.root == ino || association.above.contains(&ino);
        self.table.load().values().any(holds)
    }

    /// Whether anything is exported by itself.
    pub(in crate::vfs) fn exports_anything(&self) -> bool {
        self.table.load().values().any(|association| association.auto_export().is_on())
    }
}
