//! Publishing: a snapshot goes to a bucket as a manifest and the objects that hold its content ([`crate::format::manifest`]), from which other nodes mount it.
//!
//! `target` says which bucket is meant, `tree` goes through the snapshot, `content` brings about the objects, `manifest` writes the one that makes it a snapshot.
//!
//! Invariants:
//! 1. The manifest appears last, whole, and only where none was: whoever can read it can read all that it names, as long as nobody takes that away.
//! 2. What a file's entry names was seen, or put there, in the same publication or in one before of the same snapshot to the same place: each object is known again by the
//!    token in its metadata, which follows from the file system, the epoch and the inode. So what was interrupted is gone on with.
//! 3. Nothing that is in the bucket is replaced.

mod content;
mod manifest;
mod target;
mod tree;

use super::snapshots::named;
use super::{Inner, Vfs, metadata_error};
use crate::config::RepositorySettings;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Encoder, Entry, Header, data_prefix, manifest_key, snapshot_prefix};
use crate::format::text;
use crate::meta::{MetaError, Refusal, SnapshotRow};
use crate::repository::{StoreError, Urgency, WriteToken};
use futures::{StreamExt, TryStreamExt};
use manifest::ManifestWriter;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use target::Target;
use tree::{Found, Tree};

/// Entries brought about at once.
const AT_ONCE: usize = 64;
/// Entries between two looks at the manifest's buffer.
const BATCH: usize = 1000;
/// Publications that have ended and are remembered.
const REMEMBERED: usize = 16;

/// What is to be published, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOrder {
    /// The snapshot.
    pub name: Vec<u8>,
    /// The bucket and prefix.
    pub url: String,
    /// Whether objects of the bucket are copied as well, rather than named.
    pub copy: bool,
    /// How a bucket is reached that no directory is linked to.
    pub store: RepositorySettings,
}

/// How a publication stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishState {
    /// It is under way.
    Running,
    /// The manifest is there.
    Done {
        /// It was there before.
        already: bool,
    },
    /// It ended without a manifest.
    Failed(Error),
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishView {
    /// Its number, since the mount.
    pub id: u64,
    /// What was asked for.
    pub order: PublishOrder,
    /// How it stands.
    pub state: PublishState,
    /// Names seen to.
    pub entries: u64,
    /// Files whose content is in an object that was there.
    pub referenced: u64,
    /// Objects copied at the server.
    pub copied: u64,
    /// Objects sent.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Objects that an earlier publication had brought about.
    pub kept: u64,
}

/// What a publication did so far.
#[derive(Debug, Default)]
struct Progress {
    entries: AtomicU64,
    referenced: AtomicU64,
    copied: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    kept: AtomicU64,
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

struct Publication {
    order: PublishOrder,
    progress: Arc<Progress>,
    state: PublishState,
}

/// Publications since the mount.
#[derive(Default)]
pub(super) struct Publications {
    all: Mutex<BTreeMap<u64, Publication>>,
    /// One at a time: two of one snapshot to one place would be in each other's way.
    turn: tokio::sync::Mutex<()>,
}

impl Publications {
    /// Enters one; or the number of one that is under way and the same.
    fn begin(&self, order: &PublishOrder) -> std::result::Result<(u64, Arc<Progress>), u64> {
        let mut all = self.all.lock();
        let running = |publication: &Publication| publication.state == PublishState::Running;
        if let Some((id, _)) = all.iter().find(|(_, publication)| running(publication) && publication.order == *order) {
            return Err(*id);
        }
        while all.len() >= REMEMBERED
            && let Some(oldest) = all.iter().find(|(_, publication)| !running(publication)).map(|(id, _)| *id)
        {
            all.remove(&oldest);
        }
        let id = all.last_key_value().map_or(1, |(last, _)| last + 1);
        let progress = Arc::<Progress>::default();
        let publication = Publication { order: order.clone(), progress: Arc::clone(&progress), state: PublishState::Running };
        all.insert(id, publication);
        Ok((id, progress))
    }

    fn end(&self, id: u64, state: PublishState) {
        if let Some(publication) = self.all.lock().get_mut(&id) {
            publication.state = state;
        }
    }

    fn view(&self, id: u64) -> Option<PublishView> {
        let all = self.all.lock();
        let Publication { order, progress, state } = all.get(&id)?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(PublishView {
            id,
            order: order.clone(),
            state: state.clone(),
            entries: read(&progress.entries),
            referenced: read(&progress.referenced),
            copied: read(&progress.copied),
            sent: read(&progress.sent),
            sent_bytes: read(&progress.sent_bytes),
            kept: read(&progress.kept),
        })
    }
}

impl Vfs {
    /// Begins to publish a snapshot, and returns at once with the number of the publication; that of one under way, if it is the same.
    ///
    /// # Errors
    /// `NotFound` without such a snapshot.
    pub fn publish_snapshot(&self, order: PublishOrder) -> Result<u64> {
        let inner = &self.0;
        let snapshot = inner.meta.snapshot(&order.name).map_err(metadata_error)?;
        let snapshot = snapshot.ok_or_else(|| named(MetaError::Refused(Refusal::NotFound), &order.name))?;
        let (id, progress) = match inner.publications.begin(&order) {
            Ok(begun) => begun,
            Err(running) => return Ok(running),
        };
        let inner = Arc::clone(inner);
        self.0.runtime.spawn(async move {
            let state = match inner.publish(&order, snapshot, progress).await {
                Ok(already) => PublishState::Done { already },
                Err(error) => PublishState::Failed(error),
            };
            tracing::info!(name = %String::from_utf8_lossy(&order.name), url = order.url, ?state, "published a snapshot");
            inner.publications.end(id, state);
        });
        Ok(id)
    }

    /// How a publication stands.
    pub fn publication(&self, id: u64) -> Option<PublishView> {
        self.0.publications.view(id)
    }
}

/// A publication under way.
struct Publishing {
    inner: Arc<Inner>,
    name: Vec<u8>,
    snapshot: SnapshotRow,
    target: Target,
    copy: bool,
    /// Whether objects may be there of a publication that was interrupted.
    goes_on: bool,
    progress: Arc<Progress>,
}

impl Inner {
    /// Publishes a snapshot; whether it was published before.
    async fn publish(self: &Arc<Self>, order: &PublishOrder, snapshot: SnapshotRow, progress: Arc<Progress>) -> Result<bool> {
        let _turn = self.publications.turn.lock().await;
        self.must_be_whole(&snapshot).await?;
        let target = self.target_of(order).await?;
        let publishing = Publishing {
            inner: Arc::clone(self),
            name: order.name.clone(),
            snapshot,
            target,
            copy: order.copy,
            goes_on: false,
            progress,
        };
        publishing.run().await
    }

    /// Refuses a snapshot with directories that nobody had listed, naming the first.
    async fn must_be_whole(self: &Arc<Self>, snapshot: &SnapshotRow) -> Result<()> {
        let (inner, snapshot) = (Arc::clone(self), snapshot.clone());
        let checked = self.runtime.spawn_blocking(move || match inner.meta.must_be_listed(&snapshot) {
            Err(MetaError::Refused(Refusal::Unlisted(dir))) => {
                let (path, _) = inner.way_to(dir.at(snapshot.epoch))?;
                let message = format!(
                    "'/{}' had not been listed when the snapshot was taken: 'forebay import' before it would have",
                    text::encode(&path)
                );
                Err(Error::new(ErrorKind::Stale, message))
            }
            other => other.map_err(metadata_error),
        });
        checked.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }
}

impl Publishing {
    async fn run(mut self) -> Result<bool> {
        let key = self.target.locate(&manifest_key(&self.target.prefix, &self.name));
        if self.is_published(&key).await? {
            return Ok(true);
        }
        let place = self.target.locate(&snapshot_prefix(&self.target.prefix, &self.name));
        manifest::abort_uploads(&self.inner.repository, &place, None).await.map_err(|error| self.failed(&error))?;
        self.goes_on = self.target.has_any(&self.inner, &data_prefix(&self.target.prefix, &self.name)).await?;
        let mut writer = ManifestWriter::new(&self.inner.repository, key.clone(), self.manifest_token());
        let written = match self.write(&mut writer).await {
            Ok(()) => self.put_in_place(&mut writer).await,
            failed => failed,
        };
        if written.is_err() {
            writer.abort().await;
        }
        written.map(|()| false)
    }

    /// Names this snapshot's manifest, of the same kind.
    fn manifest_token(&self) -> WriteToken {
        self.token(&[b"manifest", &[u8::from(self.copy)]])
    }

    /// Names an object that is brought about for this snapshot, whoever does it and however often.
    fn token(&self, of: &[&[u8]]) -> WriteToken {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.inner.config.identity.to_be_bytes());
        hash.update(&self.snapshot.epoch.0.to_be_bytes());
        for piece in of {
            hash.update(piece);
        }
        let bytes: [u8; 16] = std::array::from_fn(|at| hash.finalize().as_bytes()[at]);
        WriteToken::from_bits(u128::from_be_bytes(bytes))
    }

    fn failed(&self, error: &StoreError) -> Error {
        let kind = match error {
            StoreError::AccessDenied { .. } => ErrorKind::AccessDenied,
            StoreError::Limit(_) => ErrorKind::TooLarge,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{}: {error}", self.target.url))
    }

    fn taken(&self) -> Error {
        let (name, url) = (text::encode(&self.name), self.target.url.trim_end_matches('/'));
        let message = format!(
            "{url} has another snapshot '{name}', or one that was exported otherwise: name another prefix, or remove {url}/.forebay/snapshots/{name}/ if nobody needs it"
        );
        Error::new(ErrorKind::Exists, message)
    }

    /// Whether this very snapshot is there.
    async fn is_published(&self, key: &str) -> Result<bool> {
        match self.inner.repository.head(key, Urgency::Ahead).await {
            Ok(head) if self.manifest_token().wrote(&head.user_metadata) => Ok(true),
            Ok(_) => Err(self.taken()),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn write(&self, writer: &mut ManifestWriter) -> Result<()> {
        let header = Header { name: self.name.clone(), path: self.snapshot.path.clone(), taken_ns: self.snapshot.created_ns };
        let mut encoder = Encoder::begin(&header, &mut writer.buffer);
        let mut tree = Tree::of(&self.inner, &self.snapshot)?;
        loop {
            let found = tree.next(BATCH)?;
            if found.is_empty() {
                break;
            }
            // Batch by batch: a request whose future nobody polls while a part of the manifest is sent would time out.
            let entries: Vec<Entry> =
                futures::stream::iter(found).map(|found| self.entry(found)).buffered(AT_ONCE).try_collect().await?;
            entries.iter().for_each(|entry| encoder.entry(entry, &mut writer.buffer));
            writer.send_full_parts().await.map_err(|error| self.failed(&error))?;
        }
        encoder.end(&mut writer.buffer);
        Ok(())
    }

    async fn entry(&self, found: Found) -> Result<Entry> {
        let by_name =
            |error: Error| Error::new(error.kind, format!("'/{}' of the snapshot: {}", text::encode(&found.path), error.message));
        let object = self.object_of(&found).await.map_err(by_name)?;
        let entry = found.entry(&self.inner, object).map_err(by_name)?;
        count(&self.progress.entries, 1);
        Ok(entry)
    }

    /// Makes it a snapshot, if it still is one here.
    async fn put_in_place(&self, writer: &mut ManifestWriter) -> Result<()> {
        if self.inner.meta.snapshot(&self.name).map_err(metadata_error)?.as_ref() != Some(&self.snapshot) {
            return Err(Error::new(ErrorKind::NotFound, "the snapshot was deleted meanwhile"));
        }
        writer.finish().await.map_err(|error| match error {
            StoreError::Changed { .. } => self.taken(),
            error => self.failed(&error),
        })
    }
}
