//! Where a snapshot is published: a bucket that a directory is linked to, or one that is opened for this.

use super::PublishOrder;
use crate::config::RepositorySettings;
use crate::error::{Error, ErrorKind, Result};
use crate::format::located::{association_of, locate};
use crate::ids::AssociationId;
use crate::repository::keymap::mount_prefix;
use crate::repository::url::RepositoryUrl;
use crate::repository::{ListRequest, Repository, Urgency};
use crate::vfs::{Inner, metadata_error};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A bucket and prefix.
pub(super) struct Target {
    /// As given.
    pub(super) url: String,
    /// Of the keys in the bucket: empty, or ending in a slash.
    pub(super) prefix: String,
    /// By which the bucket is reached.
    association: AssociationId,
    /// The associations that have the same bucket.
    same: BTreeSet<AssociationId>,
    /// Where it was linked for this.
    linked_in: Option<Arc<Repository>>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(repository) = &self.linked_in {
            repository.unlink(self.association);
        }
    }
}

impl Target {
    /// A key of the bucket as requests have it.
    pub(super) fn locate(&self, key: &str) -> String {
        locate(self.association, key)
    }

    /// Whether a located key is of an object of the bucket.
    pub(super) fn has(&self, located: &str) -> bool {
        self.same.contains(&association_of(located))
    }

    /// Whether the bucket has anything below a prefix.
    pub(super) async fn has_any(&self, inner: &Inner, prefix: &str) -> Result<bool> {
        let request = ListRequest { prefix: self.locate(prefix), max_keys: Some(1), ..ListRequest::default() };
        let page = inner.repository.list(request, Urgency::Ahead).await;
        let page = page.map_err(|error| Error::new(ErrorKind::Io, format!("{}: {error}", self.url)))?;
        Ok(!page.objects.is_empty())
    }
}

fn invalid(error: &impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string())
}

impl Inner {
    pub(super) async fn target_of(&self, order: &PublishOrder) -> Result<Target> {
        let url: RepositoryUrl = order.url.parse().map_err(|error| invalid(&error))?;
        let prefix = mount_prefix(url.prefix());
        let is_same = |other: &str| other.parse::<RepositoryUrl>().is_ok_and(|other| other.is_same_store(&url));
        let all = self.associations.all();
        let same: BTreeSet<_> = all
            .iter()
            .filter(|association| is_same(&association.row.url) && self.repository.is_linked(association.id))
            .map(|association| association.id)
            .collect();
        let mut target = Target { url: order.url.clone(), prefix, association: AssociationId::ROOT, same, linked_in: None };
        match target.same.first() {
            Some(linked) => target.association = *linked,
            None => {
                let (store, _) = crate::repository::open(&settings_for(&url, order)).map_err(|error| invalid(&error))?;
                target.association = self.meta.new_association().map_err(metadata_error)?;
                self.repository.link(target.association, store);
                target.linked_in = Some(Arc::clone(&self.repository));
            }
        }
        self.repository.check_access(&target.locate(&target.prefix)).await.map_err(|error| invalid(&error))?;
        Ok(target)
    }
}

/// Another bucket of the mounted one's kind is reached as that is.
fn settings_for(url: &RepositoryUrl, order: &PublishOrder) -> RepositorySettings {
    let mounted = &order.store;
    let is_same_kind = mounted.is_none()
        || mounted
            .url
            .parse::<RepositoryUrl>()
            .is_ok_and(|mounted| std::mem::discriminant(&mounted) == std::mem::discriminant(url));
    match is_same_kind {
        true => RepositorySettings { url: order.url.clone(), ..mounted.clone() },
        false => RepositorySettings::plain(&order.url, mounted.deadline),
    }
}
