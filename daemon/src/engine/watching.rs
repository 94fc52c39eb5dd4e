//! What automatic import watches: the associations as they stand, with their queues.

use crate::config::AutoImport;
use crate::format::located::locate;
use crate::ids::{AssociationId, Ino};
use crate::meta::AssociationState;
use crate::repository::Repository;
use crate::repository::queue::{self, EventQueue};
use crate::task::watch::{Watch, Watched};
use crate::vfs::{AssociationView, EVENT_QUEUE_URL, Vfs};
use std::sync::Arc;

/// Keeps the watch in step with the associations.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) vfs: Vfs,
    pub(super) watch: Watch,
    pub(super) repository: Arc<Repository>,
    /// The queue of the root's bucket's events, in place of the one that its association names.
    pub(super) root_queue: Option<Arc<dyn EventQueue>>,
}

impl Watching {
    /// Has whatever is linked now be watched, as it is asked for.
    pub(super) fn renew(&self) {
        let is_usable = |state| matches!(state, AssociationState::Available | AssociationState::Updating);
        let usable = self.vfs.associations().into_iter().filter(|association| is_usable(association.state));
        self.watch.set(usable.map(|association| self.watched(association)).collect());
    }

    fn watched(&self, association: AssociationView) -> Watched {
        let [new, changed, deleted] = association.auto_import.parts();
        let name = self.repository.name(association.id).unwrap_or_default();
        Watched {
            root: association.root,
            tag: locate(association.id, ""),
            bucket: name.strip_prefix("s3://").unwrap_or_default().to_owned(),
            policy: AutoImport { new, changed, deleted },
            queue: self.queue(&association),
            prefix: association.prefix,
        }
    }

    /// A queue that cannot be opened is as one that does not answer: the bucket is listed.
    fn queue(&self, association: &AssociationView) -> Option<Arc<dyn EventQueue>> {
        if let Some(queue) = self.root_queue.as_ref().filter(|_| association.id == AssociationId::ROOT) {
            return Some(Arc::clone(queue));
        }
        let url = association.options.get(EVENT_QUEUE_URL)?;
        match queue::open(url, &association.settings) {
            Ok(queue) => Some(queue),
            Err(error) => {
                tracing::warn!(association = %association.id, url, %error, "the queue cannot be used; the bucket is listed instead");
                None
            }
        }
    }

    /// How it is doing in a directory.
    pub(super) fn status_of(&self, root: Ino) -> Option<crate::task::watch::AutoImportStatus> {
        self.watch.status().into_iter().find(|status| status.root == root.0)
    }
}
