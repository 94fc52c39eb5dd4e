//! Quotas of users, groups and projects: showing and setting them.

use super::types::{Answer, Caller};
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Enforce, Graces, Quota, QuotaId, QuotaKind, QuotaLimits};
use futures::FutureExt;
use std::sync::Arc;

/// A quota, and where it is if it is a project's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownQuota {
    /// The quota.
    pub quota: Quota,
    /// The project's directory, below the root of the file system.
    pub path: Option<Vec<u8>>,
}

/// Whose limits hold for what somebody does; the kernel itself writes pages of mappings back, and nobody could be told of a refusal.
pub(super) fn enforce(caller: Option<Caller>) -> Enforce {
    caller.map_or(Enforce::Nothing, |caller| Enforce::of_user(caller.uid))
}

impl Vfs {
    /// The quota of a user or group; of the project that a path is in for [`QuotaKind::Project`].
    ///
    /// # Errors
    /// `NotFound` if the path is in no project.
    pub fn quota(&self, path: &[u8], kind: QuotaKind, number: u64) -> Answer<ShownQuota> {
        let (inner, path) = (Arc::clone(&self.0), path.to_vec());
        let find = async move {
            let id = match kind {
                QuotaKind::Project => inner.project_at(&path).await?,
                _ => named(kind, number)?,
            };
            inner.shown_quota(inner.meta.quota(id, inner.clock.wall_ns()))
        };
        Answer::Pending(find.boxed())
    }

    /// Every quota of whoever uses something or has limits.
    pub fn quotas(&self) -> Result<Vec<ShownQuota>> {
        let all = self.0.meta.all_quotas(self.0.clock.wall_ns());
        all.into_iter().map(|quota| self.0.shown_quota(quota)).collect()
    }

    /// Whether what was here before the first limit is still being counted.
    pub fn is_counting(&self) -> bool {
        self.0.meta.is_counting()
    }

    /// Goes on counting where a stop left off; a background task calls it.
    pub fn continue_counting(&self) -> Result<()> {
        self.0.meta.continue_counting(self.0.clock.wall_ns()).map_err(metadata_error)
    }

    /// Changes limits: of a user or group, or of the project whose directory the path is. Answers when everything is counted.
    pub fn set_quota(
        &self,
        path: &[u8],
        kind: QuotaKind,
        number: u64,
        change: impl Fn(&mut QuotaLimits) + Send + 'static,
    ) -> Answer<()> {
        let (inner, path) = (Arc::clone(&self.0), path.to_vec());
        let set = async move {
            let id = match kind {
                QuotaKind::Project => QuotaId::Project(inner.walk(&path).await?),
                _ => named(kind, number)?,
            };
            let runtime = inner.runtime.clone();
            let set = move || inner.meta.set_quota(id, &change, inner.clock.wall_ns()).map_err(metadata_error);
            runtime.spawn_blocking(set).await.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "shutting down")))
        };
        Answer::Pending(set.boxed())
    }

    /// The grace periods of a kind.
    pub fn quota_graces(&self, kind: QuotaKind) -> Graces {
        self.0.meta.graces(kind)
    }

    /// Sets the grace periods of a kind.
    pub fn set_quota_graces(&self, kind: QuotaKind, graces: Graces) -> Result<()> {
        self.0.meta.set_graces(kind, graces).map_err(metadata_error)
    }
}

fn named(kind: QuotaKind, number: u64) -> Result<QuotaId> {
    QuotaId::new(kind, number).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{number} is no user or group id")))
}

impl Inner {
    async fn project_at(self: &Arc<Self>, path: &[u8]) -> Result<QuotaId> {
        let ino = self.walk(path).await?;
        let project = self.meta.project_of(ino).map_err(metadata_error)?;
        let none = || {
            let path = String::from_utf8_lossy(path);
            Error::new(ErrorKind::NotFound, format!("'/{path}' is in no project; 'forebay quota set DIR --project' makes one"))
        };
        project.map(QuotaId::Project).ok_or_else(none)
    }

    fn shown_quota(&self, quota: Quota) -> Result<ShownQuota> {
        let path = match quota.id {
            QuotaId::Project(dir) => Some(self.way_to(dir)?.0),
            _ => None,
        };
        Ok(ShownQuota { quota, path })
    }

    /// The limit of bytes of the project that an inode is in, and what is left of it, as `statfs` shows it.
    pub(super) fn project_space(&self, ino: Ino) -> Option<(u64, u64)> {
        if !self.meta.has_quotas() {
            return None;
        }
        let project = self.meta.project_of(ino).ok().flatten()?;
        let quota = self.meta.quota(QuotaId::Project(project), self.clock.wall_ns());
        let limit = if quota.limits.bytes.soft != 0 { quota.limits.bytes.soft } else { quota.limits.bytes.hard };
        (limit != 0).then_some((limit, limit.saturating_sub(quota.used.bytes)))
    }
}
