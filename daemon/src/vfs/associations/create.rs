//! Making associations, and finding those that were made before.

use super::{Association, AssociationView, EVENT_QUEUE_URL, nowhere};
use crate::config::{AutoExport, OnConflict, RepositorySettings};
use crate::error::{Error, ErrorKind, Result};
use crate::format::located::{bare, locate};
use crate::ids::{AssociationId, Ino};
use crate::meta::{AssociationRow, AssociationState, EventBits, FileKind, NewNode};
use crate::repository::keymap::mount_prefix;
use crate::repository::queue;
use crate::repository::url::RepositoryUrl;
use crate::vfs::types::Lookup;
use crate::vfs::{Inner, Vfs, metadata_error};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An association to be made.
#[derive(Clone, Debug)]
pub struct NewAssociation {
    /// The directory, below the root; made if it is not there.
    pub path: Vec<u8>,
    /// The bucket.
    pub settings: RepositorySettings,
    /// What is imported by itself.
    pub auto_import: EventBits,
    /// What is exported by itself.
    pub auto_export: AutoExport,
    /// Options beside those of the bucket.
    pub further: BTreeMap<String, String>,
}

/// The association that `mount` makes of the root.
#[derive(Clone, Debug)]
pub struct RootAssociation {
    /// The bucket.
    pub settings: RepositorySettings,
    /// What the mount says is imported by itself; `None` leaves it as it was.
    pub auto_import: Option<EventBits>,
    /// What the mount says is exported by itself.
    pub auto_export: Option<AutoExport>,
    /// Options beside those of the bucket.
    pub further: BTreeMap<String, String>,
}

fn events(auto: AutoExport) -> EventBits {
    EventBits::new(auto.new, auto.changed, auto.deleted)
}

impl Vfs {
    /// Finds the associations that there are, and makes the root's what the mount says; goes on deleting what was being deleted.
    pub fn start_associations(&self, root: Option<RootAssociation>) -> Result<()> {
        let inner = &self.0;
        for (id, row) in inner.meta.associations().map_err(metadata_error)? {
            if id != AssociationId::ROOT {
                inner.enter_association(id, row)?;
            }
        }
        if let Some(root) = root {
            inner.enter_root(root)?;
        }
        for association in inner.associations.all() {
            if association.id == AssociationId::ROOT {
                continue;
            }
            match crate::repository::open(&association.settings(inner.config.store_deadline)) {
                Ok((store, _)) => inner.repository.link(association.id, store),
                Err(error) => inner.note(&association, |row| misconfigure(row, error.to_string())).map(drop)?,
            }
        }
        inner.directories.forget_all();
        inner.runtime.spawn(Arc::clone(inner).begin_watching());
        Ok(())
    }

    /// Links a directory to a bucket; returns once it is in use.
    ///
    /// # Errors
    /// One line that says why not; then nothing is linked.
    pub async fn create_association(&self, new: NewAssociation) -> Result<AssociationView> {
        let inner = &self.0;
        let _alone = inner.associations.alone().await;
        let (store, prefix) =
            crate::repository::open(&new.settings).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        inner.check_overlaps(&new)?;
        if let Some(url) = new.further.get(EVENT_QUEUE_URL) {
            queue::open(url, &new.settings).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        }
        let id = inner.meta.new_association().map_err(metadata_error)?;
        inner.repository.link(id, store);
        let made = inner.make_association(id, &new, &locate(id, &prefix)).await;
        if made.is_err() {
            inner.repository.unlink(id);
        }
        let made = made?;
        inner.make_durable().await?;
        inner.auto.read_again();
        Ok(made.view(inner.config.store_deadline))
    }
}

fn misconfigure(row: &mut AssociationRow, why: String) {
    if row.state != AssociationState::Deleting {
        (row.state, row.failure) = (AssociationState::Misconfigured, why);
    }
}

impl Inner {
    async fn begin_watching(self: Arc<Self>) {
        for association in self.associations.all() {
            if association.row.state == AssociationState::Deleting {
                self.go_on_deleting(&association);
            } else if association.id != AssociationId::ROOT && association.row.state != AssociationState::Failed {
                // The root's bucket was looked at before the mount; why one could not be deleted stays to be read.
                self.check_one(&association).await;
            }
        }
        self.watch_associations().await;
    }

    fn enter_root(&self, root: RootAssociation) -> Result<()> {
        let known = self.meta.associations().map_err(metadata_error)?;
        let known = known.into_iter().find(|(id, _)| *id == AssociationId::ROOT).map(|(_, row)| row);
        let mut options = root.settings.options();
        options.extend(root.further);
        let mut row = known.clone().unwrap_or_else(|| new_row(Ino::ROOT, &root.settings.url, self.clock.wall_ns()));
        (row.url, row.options) = (root.settings.url, options);
        row.auto_import = root.auto_import.unwrap_or(row.auto_import);
        if let Some(auto) = root.auto_export {
            (row.auto_export, row.on_conflict) = (events(auto), auto.on_conflict.code());
        }
        if row.state != AssociationState::Deleting {
            (row.state, row.failure) = (AssociationState::Available, String::new());
        }
        if known.as_ref() != Some(&row) {
            self.meta.save_association(AssociationId::ROOT, &row, &self.config.key_prefix).map_err(metadata_error)?;
        }
        self.enter_association(AssociationId::ROOT, row).map(drop)
    }

    fn enter_association(&self, id: AssociationId, row: AssociationRow) -> Result<Arc<Association>> {
        let prefix = match id {
            AssociationId::ROOT => self.config.key_prefix.clone(),
            _ => locate(id, &prefix_of(&row.url)?),
        };
        let (path, above) = self.way_to(row.root)?;
        Ok(self.associations.enter(Association { id, row, path, above, prefix, progress: Arc::default() }))
    }

    /// The path of a directory, and the directories above it.
    pub(in crate::vfs) fn way_to(&self, mut ino: Ino) -> Result<(Vec<u8>, Vec<Ino>)> {
        let (mut names, mut above) = (Vec::new(), Vec::new());
        while let Some((parent, name)) = self.meta.parent_of(ino).map_err(metadata_error)? {
            names.push(name);
            above.push(parent);
            ino = parent;
        }
        names.reverse();
        Ok((names.join(&b'/'), above))
    }

    async fn make_association(
        self: &Arc<Self>,
        id: AssociationId,
        new: &NewAssociation,
        prefix: &str,
    ) -> Result<Arc<Association>> {
        self.repository.check_access(prefix).await.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let root = self.make_directories(&new.path).await?;
        let mut options = new.settings.options();
        options.extend(new.further.clone());
        let row = AssociationRow {
            auto_import: new.auto_import,
            auto_export: events(new.auto_export),
            on_conflict: new.auto_export.on_conflict.code(),
            options,
            ..new_row(root, &new.settings.url, self.clock.wall_ns())
        };
        let association = {
            // Nothing moves until the directory and those above it are known to stay.
            let _renames = self.renames.lock();
            if self.way_to(root)?.0 != normal(&new.path) {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("'/{}' was moved meanwhile; try again", String::from_utf8_lossy(&new.path)),
                ));
            }
            self.meta.save_association(id, &row, prefix).map_err(metadata_error)?;
            self.enter_association(id, row)?
        };
        self.directories.forget_all();
        self.names_changed(root);
        self.invalidator.inode(root);
        self.note(&association, |row| row.state = AssociationState::Available)
    }

    /// The directory at a path; what is missing of it is made, for whoever owns the root.
    async fn make_directories(self: &Arc<Self>, path: &[u8]) -> Result<Ino> {
        let mut ino = Ino::ROOT;
        let owner = self.row(Ino::ROOT)?;
        for name in parts(path) {
            let node =
                NewNode { kind: FileKind::Directory, perm: 0o755, umask: 0, owner: (owner.uid, owner.gid), rdev: 0, target: b"" };
            let made = match self.resolve(ino, name).await? {
                Lookup::Found(entry) => entry.attr,
                Lookup::Absent { .. } => match self.make(ino, name, node) {
                    Ok(entry) => {
                        self.invalidator.entry(ino, name);
                        self.invalidator.inode(ino);
                        entry.attr
                    }
                    Err(error) => return Err(error),
                },
            };
            if made.kind != FileKind::Directory {
                let message = format!("'/{}' is not a directory", String::from_utf8_lossy(path));
                return Err(Error::new(ErrorKind::NotDirectory, message));
            }
            ino = made.ino;
        }
        Ok(ino)
    }

    /// Invariant 1.
    fn check_overlaps(&self, new: &NewAssociation) -> Result<()> {
        let path = normal(&new.path);
        let shown = String::from_utf8_lossy(&path).into_owned();
        if path.is_empty() {
            let message = "the root is linked by 'forebay mount', to the bucket that it names; link a directory below it";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        for other in self.associations.all() {
            let theirs = other.shown();
            if is_within(&path, &other.path) || is_within(&other.path, &path) {
                let way_out = match other.id {
                    AssociationId::ROOT => {
                        "mount a file system of several buckets with 'none' in place of the bucket, or delete the root's association first"
                    }
                    _ => "give a directory that is not in another association's",
                };
                let message = format!("'/{shown}' overlaps with '{theirs}', which is linked to {}; {way_out}", other.row.url);
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            if is_same_store(&new.settings, &other.settings(self.config.store_deadline))
                && prefixes_overlap(&prefix_of(&new.settings.url)?, bare(&other.prefix))
            {
                let message = format!(
                    "{} overlaps with {}, which '{theirs}' is linked to; give another prefix",
                    new.settings.url, other.row.url
                );
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        Ok(())
    }

    /// What a directory's entries come from, and belong to, before anything is known of what is above it.
    pub(in crate::vfs) fn prefix_of_root(&self) -> String {
        self.associations.get(AssociationId::ROOT).map_or_else(nowhere, |root| root.prefix.clone())
    }
}

fn new_row(root: Ino, url: &str, now_ns: i64) -> AssociationRow {
    AssociationRow {
        root,
        state: AssociationState::Creating,
        delete_data: false,
        created_ns: now_ns,
        auto_import: EventBits::default(),
        auto_export: EventBits::default(),
        on_conflict: OnConflict::default().code(),
        url: url.to_owned(),
        options: BTreeMap::new(),
        failure: String::new(),
    }
}

fn parse(url: &str) -> Result<RepositoryUrl> {
    url.parse().map_err(|error: crate::repository::url::UrlError| Error::new(ErrorKind::Invalid, error.to_string()))
}

fn prefix_of(url: &str) -> Result<String> {
    Ok(mount_prefix(parse(url)?.prefix()))
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

fn normal(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}

/// Whether a path is another one, or below it.
fn is_within(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn prefixes_overlap(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// Whether two settings mean one bucket, or one directory and something in it.
fn is_same_store(a: &RepositorySettings, b: &RepositorySettings) -> bool {
    match (parse(&a.url), parse(&b.url)) {
        (Ok(RepositoryUrl::S3 { bucket: one, .. }), Ok(RepositoryUrl::S3 { bucket: other, .. }))
        | (Ok(RepositoryUrl::Gcs { bucket: one, .. }), Ok(RepositoryUrl::Gcs { bucket: other, .. }))
        | (Ok(RepositoryUrl::Azure { container: one, .. }), Ok(RepositoryUrl::Azure { container: other, .. })) => {
            one == other && a.endpoint_url == b.endpoint_url
        }
        (Ok(RepositoryUrl::Directory { path: one }), Ok(RepositoryUrl::Directory { path: other })) => {
            one.starts_with(&other) || other.starts_with(&one)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_overlap_where_one_is_the_other_or_above_it() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b") && !is_within(b"b", b"a"));
        assert_eq!(normal(b"/a//b/./"), b"a/b");
    }

    #[test]
    fn prefixes_overlap_where_one_begins_with_the_other() {
        assert!(prefixes_overlap("a/", "a/b/") && prefixes_overlap("", "x/") && prefixes_overlap("a/", "a/"));
        assert!(!prefixes_overlap("a/", "ab/") && !prefixes_overlap("a/b/", "a/c/"));
    }
}
