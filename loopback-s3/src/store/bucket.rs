//! A bucket: keys in byte order, each with its versions.
//!
//! 1. Keys are ordered by their UTF-8 bytes.
//! 2. A write with a condition is decided and applied under one lock: of several, one wins.
//! 3. Of each key at most one version is `null`.

use super::error::Refusal;
use super::object::{Object, Revision, UnixMs, VersionId};
use super::upload::Uploads;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// Never has: every write replaces.
    #[default]
    Off,
    /// Every write and delete adds a version.
    Enabled,
    /// Writes replace the `null` version; older versions stay.
    Suspended,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`: the key must not exist.
    Absent,
    /// `If-Match`: the latest version must have this ETag (no quotes); `*` takes any.
    Matches(String),
}

/// The history of one key.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) latest: Arc<Revision>,
    /// Oldest first.
    pub(crate) older: Vec<Arc<Revision>>,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// A delete marker was added, or the version removed was one.
    pub marker: bool,
    /// The version that was added or removed, in a bucket with versions.
    pub version: Option<VersionId>,
}

pub(crate) type Keys = BTreeMap<Box<str>, Slot>;

/// A bucket.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    created: UnixMs,
    versioning: Mutex<Versioning>,
    next_version: AtomicU64,
    pub(crate) keys: RwLock<Keys>,
    pub(crate) uploads: Mutex<Uploads>,
}

impl Bucket {
    pub(crate) fn new(name: &str) -> Bucket {
        Bucket {
            name: name.to_owned(),
            created: UnixMs::now(),
            versioning: Mutex::default(),
            next_version: AtomicU64::new(1),
            keys: RwLock::default(),
            uploads: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made.
    pub fn created(&self) -> UnixMs {
        self.created
    }

    /// Whether it keeps versions.
    pub fn versioning(&self) -> Versioning {
        *self.versioning.lock()
    }

    /// Starts or suspends keeping versions.
    pub fn set_versioning(&self, versioning: Versioning) {
        *self.versioning.lock() = versioning;
    }

    /// Whether version ids show in replies.
    pub(crate) fn shows_versions(&self) -> bool {
        self.versioning() != Versioning::Off
    }

    fn version_for_write(&self) -> VersionId {
        match self.versioning() {
            Versioning::Enabled => VersionId(self.next_version.fetch_add(1, Ordering::Relaxed)),
            Versioning::Off | Versioning::Suspended => VersionId::NULL,
        }
    }

    /// The latest version of a key, or the one named.
    pub fn find(&self, key: &str, version: Option<&str>) -> Result<Arc<Revision>, Refusal> {
        let keys = self.keys.read();
        let slot = keys.get(key);
        let Some(version) = version else {
            let latest = &slot.ok_or(Refusal::NoSuchKey { marker: None })?.latest;
            return match latest.object {
                Some(_) => Ok(latest.clone()),
                None => Err(Refusal::NoSuchKey { marker: Some(latest.version) }),
            };
        };
        let found = slot.and_then(|slot| slot.find(version)).ok_or(Refusal::NoSuchVersion)?;
        match found.object {
            Some(_) => Ok(found.clone()),
            None => Err(Refusal::IsDeleteMarker { version: found.version }),
        }
    }

    /// Writes an object, if the condition holds.
    pub(crate) fn write(
        &self,
        key: &str,
        object: Object,
        modified: UnixMs,
        condition: &WriteCondition,
    ) -> Result<Arc<Revision>, Refusal> {
        let mut keys = self.keys.write();
        condition.check(keys.get(key))?;
        let revision = Arc::new(Revision { version: self.version_for_write(), modified, object: Some(object) });
        push(&mut keys, key, revision.clone());
        Ok(revision)
    }

    /// Deletes a key (or marks it deleted), or one version of it for good.
    pub(crate) fn remove(&self, key: &str, version: Option<&str>, condition: &WriteCondition) -> Result<Deletion, Refusal> {
        let mut keys = self.keys.write();
        if *condition != WriteCondition::None {
            condition.check(keys.get(key))?;
        }
        match version {
            Some(version) => Ok(remove_version(&mut keys, key, version)),
            None if self.versioning() == Versioning::Off => {
                keys.remove(key);
                Ok(Deletion::default())
            }
            None => {
                let marker = Revision { version: self.version_for_write(), modified: UnixMs::now(), object: None };
                let deletion = Deletion { marker: true, version: Some(marker.version) };
                push(&mut keys, key, Arc::new(marker));
                Ok(deletion)
            }
        }
    }

    /// Whether nothing at all is left in it, not even a version.
    pub(crate) fn is_vacant(&self) -> bool {
        self.keys.read().is_empty()
    }
}

impl WriteCondition {
    fn check(&self, slot: Option<&Slot>) -> Result<(), Refusal> {
        let current = slot.and_then(|slot| slot.latest.object.as_ref());
        match (self, current) {
            (WriteCondition::None, _) | (WriteCondition::Absent, None) => Ok(()),
            (WriteCondition::Absent, Some(_)) => Err(Refusal::PreconditionFailed { condition: "If-None-Match" }),
            (WriteCondition::Matches(_), None) => Err(Refusal::NoSuchKey { marker: None }),
            (WriteCondition::Matches(wanted), Some(object)) => match wanted == "*" || *wanted == object.etag.to_string() {
                true => Ok(()),
                false => Err(Refusal::PreconditionFailed { condition: "If-Match" }),
            },
        }
    }
}

impl Slot {
    fn find(&self, version: &str) -> Option<&Arc<Revision>> {
        self.newest_first().find(|revision| revision.version.to_string() == version)
    }

    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Arc<Revision>> {
        std::iter::once(&self.latest).chain(self.older.iter().rev())
    }
}

/// Makes `revision` the latest of `key`, replacing the null version if it is one (invariant 3).
fn push(keys: &mut Keys, key: &str, revision: Arc<Revision>) {
    let Some(slot) = keys.get_mut(key) else {
        keys.insert(key.into(), Slot { latest: revision, older: Vec::new() });
        return;
    };
    if revision.version.is_null() {
        slot.older.retain(|old| !old.version.is_null());
    }
    let previous = std::mem::replace(&mut slot.latest, revision);
    if !(previous.version.is_null() && slot.latest.version.is_null()) {
        slot.older.push(previous);
    }
}

fn remove_version(keys: &mut Keys, key: &str, version: &str) -> Deletion {
    let Some(slot) = keys.get_mut(key) else { return Deletion::default() };
    let Some(found) = slot.find(version).cloned() else { return Deletion::default() };
    if slot.latest.version != found.version {
        slot.older.retain(|old| old.version != found.version);
    } else if let Some(previous) = slot.older.pop() {
        slot.latest = previous;
    } else {
        keys.remove(key);
    }
    Deletion { marker: found.object.is_none(), version: Some(found.version) }
}
