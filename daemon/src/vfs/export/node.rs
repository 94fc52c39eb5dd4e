//! Exporting symlinks and directories: small objects that say what they are by their metadata.

use super::aside::{Aside, Ended};
use super::collision::Clear;
use super::file::attributes;
use super::place::{Next, Place, origin, own_link};
use super::{ErrorCode, ExportFailure, ExportResult, Exported, Inner, OnConflict};
use crate::ids::Ino;
use crate::meta::{Inode, Link, Sent, UploadKind};
use crate::repository::write::{PutRequest, SystemHeaders};
use crate::repository::{ObjectHeaders, Payload, Pin, Precondition, StoreError, Urgency};
use crate::vfs::directory::Directory;
use crate::vfs::metadata_error;
use std::sync::Arc;

const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// What a directory's marker says it is, as S3's console and FSx have it.
const DIRECTORY_TYPE: &str = "application/x-directory";
const TRIES: usize = 3;

/// One export of an inode at a time.
struct Alone<'a> {
    inner: &'a Inner,
    ino: Ino,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.inner.meta.end_export(self.ino);
        self.inner.exports.under_way.lock().remove(&self.ino);
    }
}

fn busy() -> ExportFailure {
    ExportFailure::passing(ErrorCode::ResourceBusy, "it is being exported")
}

/// A node as it was at one moment.
struct Node {
    row: Inode,
    generation: u64,
    link: Link,
    place: Place,
}

impl Inner {
    fn alone(&self, ino: Ino) -> Option<Alone<'_>> {
        if !self.exports.under_way.lock().insert(ino) {
            return None;
        }
        self.meta.begin_export(ino);
        Some(Alone { inner: self, ino })
    }

    /// A node and its generation, which is read first: what changes between the two goes again.
    fn node(&self, ino: Ino) -> ExportResult<Option<Node>> {
        let change = self.meta.change_of(ino).map_err(metadata_error)?;
        let row = self.meta.inode(ino).map_err(metadata_error)?;
        let Some(row) = row.filter(|row| row.link.is_some()) else { return Ok(None) };
        let link = own_link(&row)?;
        let place = self.place_of(&link)?;
        Ok(Some(Node { row, generation: change.map_or(0, |change| change.generation), link, place }))
    }

    pub(super) async fn export_symlink(
        self: &Arc<Self>,
        ino: Ino,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<Ended> {
        let Some(_alone) = self.alone(ino) else { return Err(busy()) };
        let Some(node) = self.node(ino)? else { return Ok(Exported::Nothing.into()) };
        let is_there = node.row.origin.as_ref().is_some_and(|origin| origin.key == node.place.key);
        if is_there && !node.row.attrs_changed && node.generation == 0 {
            return Ok(Exported::Unchanged.into());
        }
        let target = self.meta.symlink_target(ino).map_err(metadata_error)?.unwrap_or_default();
        let size = target.len() as u64;
        self.rescue(&node.place.key, ino).await?;
        let mut expected = match self.what_became_of(ino, &node.place.key).await? {
            Some(own) => Precondition::Is(own),
            None => self.expected_at(&node.place.key, node.row.origin.as_ref())?,
        };
        let headers = ObjectHeaders { user_metadata: attributes(&node.row, SYMLINK).write(), ..ObjectHeaders::default() };
        for tries in 0..TRIES {
            if expected == Precondition::Absent {
                match self.clear_for(ino, &node.link, &node.place.key, on_conflict, tries > 0, urgency).await? {
                    Clear::Free => {}
                    Clear::PassOver => return Ok(Exported::Skipped.into()),
                    Clear::MakeWay(aside) => return Ok(Ended::MakesWay(aside)),
                }
            }
            match self.put_node(ino, &node, target.clone().into(), headers.clone(), expected.clone(), urgency).await {
                Ok(pin) => {
                    self.record_node(ino, &node, pin)?;
                    return Ok(Exported::Sent(size).into());
                }
                Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match self.after_conflict(&node.place.key, on_conflict, urgency).await? {
                Next::Expect(now) => expected = now,
                Next::PassOver => return Ok(Exported::Skipped.into()),
                Next::MakeWay => return Ok(Ended::MakesWay(Aside { ino, link: node.link.clone() })),
            }
        }
        Err(ExportFailure::passing(ErrorCode::S3Conflict, format!("'{}' changes in the bucket all the time", node.place.key)))
    }

    /// Writes a directory's marker. Markers are not conditional: they hold attributes, and whoever sets them last has set them.
    pub(super) async fn export_directory(
        self: &Arc<Self>,
        ino: Ino,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<Ended> {
        if ino == Ino::ROOT || self.associations.at(ino).is_some() {
            return Ok(Exported::Nothing.into());
        }
        let own = self.directory(ino)?;
        if !self.is_export_possible(&own.target) {
            return Ok(Exported::Nothing.into());
        }
        let Some(_alone) = self.alone(ino) else { return Err(busy()) };
        let Some(mut node) = self.node(ino)? else { return Ok(Exported::Nothing.into()) };
        if own.in_store && own.prefix != own.target {
            // Below it there are objects that have to move first.
            return Err(ExportFailure::passing(
                ErrorCode::ResourceBusy,
                format!("what is below '{}' is still to be moved", own.target),
            ));
        }
        if node.generation == 0 && !node.row.local && !node.row.attrs_changed {
            return Ok(Exported::Unchanged.into());
        }
        match self.clear_above(ino, on_conflict, urgency).await? {
            Clear::Free => {}
            Clear::PassOver => return Ok(Exported::Skipped.into()),
            Clear::MakeWay(aside) => return Ok(Ended::MakesWay(aside)),
        }
        node.place.key = own.target.clone();
        let system = SystemHeaders { content_type: Some(DIRECTORY_TYPE.to_owned()), ..SystemHeaders::default() };
        let headers = ObjectHeaders { system, user_metadata: attributes(&node.row, DIRECTORY).write() };
        let pin = self.put_node(ino, &node, Payload::default(), headers, Precondition::Any, urgency).await?;
        self.record_node(ino, &node, pin)?;
        // It is the store's as well now, and may be listed.
        self.directories.forget(ino);
        Ok(Exported::Sent(0).into())
    }

    /// All that was below a moved directory's old prefix is below its new one: that is where its entries come from now.
    pub(super) async fn settle_moved(
        self: &Arc<Self>,
        directory: &Directory,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult {
        let (ino, to) = (directory.ino, directory.target.as_str());
        let path = self.path_of_key(to).unwrap_or_default();
        let settled = self.meta.settle_moved(ino, &directory.prefix, to, &path, self.clock.wall_ns()).map_err(metadata_error)?;
        if !settled {
            return Err(ExportFailure::passing(ErrorCode::ResourceBusy, format!("'{to}' was moved while what is below it was")));
        }
        self.exports.note_move();
        // What lies below is remembered with the prefix it had.
        self.directories.forget_all();
        self.export(ino, on_conflict, urgency).await
    }

    async fn put_node(
        &self,
        ino: Ino,
        node: &Node,
        body: Payload,
        headers: ObjectHeaders,
        precondition: Precondition,
        urgency: Urgency,
    ) -> Result<Pin, StoreError> {
        let Some(_key) = self.exports.lock(&node.place.key) else {
            return Err(StoreError::Transient {
                what: node.place.key.clone(),
                message: "it is being written or deleted".to_owned(),
            });
        };
        let token = self.new_token(ino);
        if let Err(error) = self.about_to_write(ino, &node.place.key, token, UploadKind::Whole) {
            return Err(StoreError::Permanent { what: node.place.key.clone(), message: error.to_string() });
        }
        self.repository.put(PutRequest { key: node.place.key.clone(), body, headers, precondition }, token, urgency).await
    }

    fn record_node(&self, ino: Ino, node: &Node, pin: Pin) -> ExportResult<()> {
        let what = Sent {
            ino,
            generation: node.generation,
            link: node.link.clone(),
            path: node.place.path.clone(),
            origin: origin(&node.place.key, pin),
            further: Vec::new(),
            is_listed: node.place.is_listed,
            is_clean: true,
        };
        self.meta.exported(&what).map_err(metadata_error)?;
        self.after_sent(ino, &node.link, &node.place.key)
    }
}
