//! Exporting regular files.

use super::aside::{Aside, Ended};
use super::collision::Clear;
use super::place::{Next, Place, origin, own_link, pin_of};
use super::{ExportFailure, ExportResult, Exported, Inner, OnConflict, is_content_changed};
use crate::cache::Sending;
use crate::ids::Ino;
use crate::meta::{Inode, Link, Origin, Sent, Standing, UploadKind};
use crate::repository::limits::MOST_SINGLE;
use crate::repository::posix::PosixMetadata;
use crate::repository::write::{CopyRequest, CopySource, SystemHeaders, same_etag};
use crate::repository::{ObjectHeaders, Pin, Precondition, StoreError, Urgency, WriteToken};
use crate::vfs::{HeadFailure, metadata_error};
use std::sync::Arc;

/// Tries to bring about one object while somebody else changes it.
const TRIES: usize = 3;
const REGULAR: u32 = 0o100_000;

/// One object that is to be brought about.
pub(super) struct Task<'a> {
    pub(super) ino: Ino,
    pub(super) sending: &'a Sending,
    pub(super) key: &'a str,
    /// Names the write.
    pub(super) token: WriteToken,
    /// The name that the object is of.
    pub(super) link: &'a Link,
    pub(super) urgency: Urgency,
}

/// What came of bringing an object about.
enum Brought {
    /// It is there.
    Object(Pin),
    /// It was passed over for a conflict.
    PassedOver,
    /// Something is to make way first.
    MakesWay(Aside),
}

/// What is to be done for an object.
enum Way<'a> {
    /// It is there.
    Nothing,
    /// The content goes out.
    Upload,
    /// The store copies it, with new metadata: what others said of it stays.
    Copy { from: &'a Origin },
}

impl Inner {
    pub(super) async fn export_file(
        self: &Arc<Self>,
        ino: Ino,
        row: &Inode,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<Ended> {
        if self.lacks_attributes(ino, row) {
            self.learn_attributes(ino, urgency).await.map_err(|failure| match failure {
                HeadFailure::Store { error, .. } => ExportFailure::from(error),
                HeadFailure::Here(error) => error.into(),
            })?;
            if self.inode(ino)?.kind != crate::meta::FileKind::File {
                return self.export_symlink(ino, on_conflict, urgency).await;
            }
        }
        let file = self.file_of(ino, row)?;
        let Some(sending) = self.cache.begin_sending(file).await? else {
            return Err(ExportFailure::passing(super::ErrorCode::ResourceBusy, "it is being exported, or gone"));
        };
        if sending.row.link.is_none() {
            return Ok(Exported::Nothing.into());
        }
        let link = own_link(&sending.row)?;
        let place = self.place_of(&link)?;
        let token = self.new_token(ino);
        let task = Task { ino, sending: &sending, key: &place.key, token, link: &link, urgency };
        let way = match &sending.row.origin {
            _ if is_content_changed(&sending.row) => Way::Upload,
            Some(from) if from.key == place.key && !sending.row.attrs_changed && !sending.row.borrowed => Way::Nothing,
            Some(from) => Way::Copy { from },
            None => Way::Upload,
        };
        let further = self.meta.further_names(ino).map_err(metadata_error)?;
        if matches!(way, Way::Nothing) && further.is_empty() && self.meta.change_of(ino).map_err(metadata_error)?.is_none() {
            return Ok(Exported::Unchanged.into());
        }
        if let Some(written) = self.what_became_of(ino, &place.key).await? {
            // The end of an earlier write was not recorded: first that, since it is where the file's bytes come from now.
            let what = Sent {
                ino,
                generation: u64::MAX,
                link: link.clone(),
                path: place.path.clone(),
                origin: origin(&place.key, written),
                further: Vec::new(),
                is_listed: place.is_listed,
                is_clean: false,
            };
            self.cache.sent(&sending, what).await?;
            drop(sending);
            return Box::pin(self.export_file(ino, row, on_conflict, urgency)).await;
        }
        let known = sending.row.own_origin();
        let own = match self.bring_about(&task, &way, known, on_conflict).await? {
            Brought::Object(pin) => pin,
            Brought::PassedOver => return Ok(Exported::Skipped.into()),
            Brought::MakesWay(aside) => return Ok(Ended::MakesWay(aside)),
        };
        let mut sent = match way {
            Way::Nothing => 0,
            Way::Upload | Way::Copy { .. } => sending.row.size,
        };
        let own = origin(&place.key, own);
        let (mut others, mut makes_way) = (Vec::new(), None);
        for (link, known) in further {
            let pin = match self.export_further(&task, &own, &link, known.as_ref(), on_conflict).await? {
                Brought::Object(pin) => pin,
                Brought::PassedOver => continue,
                Brought::MakesWay(aside) => {
                    makes_way = Some(aside);
                    break;
                }
            };
            let key = self.place_of(&link)?.key;
            others.push((link, origin(&key, pin)));
            sent += sending.row.size;
        }
        // With a name that is still to change it is not all that there is to send.
        self.record(&task, &place, &link, own, others, makes_way.is_none()).await?;
        Ok(makes_way.map_or(Ended::With(Exported::Sent(sent)), Ended::MakesWay))
    }

    /// The object of a further name of a file: a copy of the first.
    async fn export_further(
        self: &Arc<Self>,
        task: &Task<'_>,
        own: &Origin,
        link: &Link,
        known: Option<&Origin>,
        on_conflict: OnConflict,
    ) -> ExportResult<Brought> {
        let place = self.place_of(link)?;
        let task = Task { key: &place.key, token: self.new_token(task.ino), link, ..*task };
        self.bring_about(&task, &Way::Copy { from: own }, known, on_conflict).await
    }

    async fn record(
        self: &Arc<Self>,
        task: &Task<'_>,
        place: &Place,
        link: &Link,
        own: Origin,
        further: Vec<(Link, Origin)>,
        is_all: bool,
    ) -> ExportResult<()> {
        let what = Sent {
            ino: task.ino,
            generation: task.sending.generation,
            link: link.clone(),
            path: place.path.clone(),
            origin: own,
            further,
            is_listed: place.is_listed,
            is_clean: is_all,
        };
        let standing = self.cache.sent(task.sending, what).await?;
        self.after_sent(task.ino, link, &place.key)?;
        if standing == Standing::Changed {
            // It is in the log, and goes again.
            tracing::debug!(key = task.key, "changed while it was exported");
        }
        Ok(())
    }

    /// What was just put there need not be asked for; and if its directory moved meanwhile, it goes again.
    pub(super) fn after_sent(&self, ino: Ino, link: &Link, key: &str) -> ExportResult<()> {
        self.directories.note_probe(link.parent, &link.name, self.clock.wall_ns());
        if !self.directory(link.parent)?.in_store {
            self.directories.forget(link.parent);
        }
        let has_moved = self.place_of(link).map_or(true, |place| place.key.trim_end_matches('/') != key.trim_end_matches('/'));
        if has_moved {
            self.meta.note_change(ino, self.clock.wall_ns()).map_err(metadata_error)?;
        }
        Ok(())
    }

    /// Brings about one object.
    async fn bring_about(
        self: &Arc<Self>,
        task: &Task<'_>,
        way: &Way<'_>,
        known: Option<&Origin>,
        on_conflict: OnConflict,
    ) -> ExportResult<Brought> {
        if let (Way::Nothing, Some(known)) = (way, known) {
            return Ok(Brought::Object(pin_of(known)));
        }
        let Some(_key) = self.exports.lock(task.key) else {
            return Err(ExportFailure::passing(
                super::ErrorCode::ResourceBusy,
                format!("'{}' is being written or deleted", task.key),
            ));
        };
        self.rescue(task.key, task.ino).await?;
        let mut expected = match self.what_became_of(task.ino, task.key).await? {
            Some(own) => Precondition::Is(own),
            None => self.expected_at(task.key, known)?,
        };
        self.about_to_write(task.ino, task.key, task.token, UploadKind::Whole)?;
        let replaces_its_own = task.sending.row.origin.as_ref().is_some_and(|known| known.key == task.key);
        if replaces_its_own && !self.meta.is_all_here(task.ino).map_err(metadata_error)? {
            // Else a power cut could leave a file whose bytes come from an object that was replaced, and nothing that says by whom.
            self.durable().await?;
        }
        let mut is_source_gone = false;
        for tries in 0..TRIES {
            task.sending.may_be_seen(false);
            if !self.cache.is_as_it_was(task.sending)? {
                return Err(ExportFailure::passing(super::ErrorCode::ResourceBusy, format!("'{}' changes meanwhile", task.key)));
            }
            if expected == Precondition::Absent {
                match self.clear_for(task.ino, task.link, task.key, on_conflict, tries > 0, task.urgency).await? {
                    Clear::Free => {}
                    Clear::PassOver => return Ok(Brought::PassedOver),
                    Clear::MakeWay(aside) => return Ok(Brought::MakesWay(aside)),
                }
            }
            let done = match way {
                Way::Copy { from } if !is_source_gone => match self.copy_object(task, from, expected.clone()).await {
                    // GCS and Azure cannot do all that S3 can: then the content goes out.
                    Err(Refused::Unsupported) => self.upload(task, expected).await,
                    // What a clone borrowed is gone; its bytes may be here.
                    Err(Refused::Conflict) if task.sending.row.borrowed && self.is_gone(from, task.urgency).await? => {
                        self.upload(task, expected).await
                    }
                    done => done,
                },
                Way::Upload | Way::Copy { .. } | Way::Nothing => self.upload(task, expected).await,
            };
            match done {
                Ok(pin) => return Ok(Brought::Object(pin)),
                Err(Refused::Conflict | Refused::Unsupported) => {}
                Err(Refused::Failed(failure)) => return Err(failure),
            }
            task.sending.may_be_seen(false);
            match self.after_conflict(task.key, on_conflict, task.urgency).await? {
                Next::Expect(now) => expected = now,
                Next::PassOver => return Ok(Brought::PassedOver),
                Next::MakeWay => return Ok(Brought::MakesWay(Aside { ino: task.ino, link: task.link.clone() })),
            }
            // What it was to be a copy of was under this key: as far as its bytes are here, they go out.
            is_source_gone |= matches!(way, Way::Copy { from } if from.key == task.key);
        }
        Err(ExportFailure::passing(super::ErrorCode::S3Conflict, format!("'{}' changes in the bucket all the time", task.key)))
    }

    /// Copies an object at the server.
    async fn copy_object(self: &Arc<Self>, task: &Task<'_>, from: &Origin, expected: Precondition) -> Result<Pin, Refused> {
        let size = task.sending.row.size;
        let source = CopySource { key: from.key.clone(), pin: pin_of(from) };
        // Always with metadata of its own, where the write's token is.
        let headers = self.headers_of_copy(task, from).await?;
        if size > MOST_SINGLE {
            return self.copy_in_parts(task, source, headers, expected).await;
        }
        let request = CopyRequest { source, key: task.key.to_owned(), headers: Some(headers), precondition: expected };
        task.sending.may_be_seen(true);
        match self.repository.copy(request, task.token, task.urgency).await {
            Ok(pin) => Ok(pin),
            Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => self.who_changed(task, from).await,
            Err(error) => Err(error.into()),
        }
    }

    /// A copy was refused: if its source is what changed, nothing is to be got there any more.
    async fn who_changed(&self, task: &Task<'_>, from: &Origin) -> Result<Pin, Refused> {
        if from.key == task.key || task.sending.row.borrowed {
            return Err(Refused::Conflict);
        }
        match self.repository.head(&from.key, task.urgency).await {
            Ok(head) if same_etag(&head.pin.etag, &from.etag) => Err(Refused::Conflict),
            Ok(_) | Err(StoreError::NotFound { .. }) => {
                let message = format!("'{}', which it was moved from, was replaced or deleted in the bucket", from.key);
                Err(Refused::Failed(ExportFailure::new(super::ErrorCode::S3FileDeleted, message)))
            }
            Err(error) => Err(Refused::Failed(error.into())),
        }
    }

    /// Whether an object is not what it was.
    async fn is_gone(&self, from: &Origin, urgency: Urgency) -> ExportResult<bool> {
        match self.repository.head(&from.key, urgency).await {
            Ok(head) => Ok(!same_etag(&head.pin.etag, &from.etag)),
            Err(StoreError::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The headers of a copy with new attributes: what others said about the source stays.
    async fn headers_of_copy(&self, task: &Task<'_>, from: &Origin) -> Result<ObjectHeaders, Refused> {
        let head = match self.repository.head(&from.key, task.urgency).await {
            Ok(head) => head,
            Err(StoreError::NotFound { .. }) => return Err(Refused::Conflict),
            Err(error) => return Err(Refused::Failed(error.into())),
        };
        let mut user_metadata = head.user_metadata;
        user_metadata.extend(attributes(&task.sending.row, REGULAR).write());
        Ok(ObjectHeaders { system: head.system, user_metadata })
    }
}

/// Why an object was not brought about.
pub(super) enum Refused {
    /// Something else is there than was expected.
    Conflict,
    /// The store has no such request.
    Unsupported,
    Failed(ExportFailure),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } | StoreError::NotFound { .. } => Refused::Conflict,
            StoreError::Unsupported { .. } => Refused::Unsupported,
            other => Refused::Failed(other.into()),
        }
    }
}

impl<E: Into<ExportFailure>> From<(E,)> for Refused {
    fn from((error,): (E,)) -> Self {
        Refused::Failed(error.into())
    }
}

/// A row's attributes, as FSx for Lustre keeps them.
pub(super) fn attributes(row: &Inode, kind_bits: u32) -> PosixMetadata {
    PosixMetadata {
        mode: Some(kind_bits | u32::from(row.perm)),
        uid: Some(row.uid),
        gid: Some(row.gid),
        atime_ns: Some(row.atime_ns),
        mtime_ns: Some(row.mtime_ns),
        agent: None,
    }
}

/// The headers of a file whose content goes out.
pub(super) fn headers_of_upload(row: &Inode, name: &[u8]) -> ObjectHeaders {
    let content_type = std::str::from_utf8(name).ok().and_then(|name| mime_guess::from_path(name).first_raw());
    let system = SystemHeaders { content_type: content_type.map(str::to_owned), ..SystemHeaders::default() };
    ObjectHeaders { system, user_metadata: attributes(row, REGULAR).write() }
}
