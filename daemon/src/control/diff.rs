//! What differs between snapshots, and their digests, as they go over the control socket. Names and paths are encoded as paths of tasks are.

use super::lines::{Items, respond};
use super::server::{Target, parameter};
use super::snapshot::name_of;
use super::task::encode_path;
use super::types::ApiError;
use crate::meta::{Difference, Differs, FileKind};
use crate::vfs::{DigestProgress, TreeDigest, Vfs};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures::stream::{iter, once, unfold};
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between lines that say how far a digest is.
const PROGRESS: Duration = Duration::from_millis(500);

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// It has another path.
    Renamed,
    /// Its content is another, or may be.
    Changed,
    /// Its attributes are others.
    Metadata,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket, a device.
    Special,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// How it differs.
    pub change: Change,
    /// What it is.
    pub kind: Kind,
    /// Its path in the second tree, or, of what was removed, in the first.
    pub path: String,
    /// Of what was renamed, its path in the first tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// A digest, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestInfo {
    /// The digest, once all was read.
    pub digest: Option<String>,
    /// Names so far.
    pub entries: u64,
    /// Bytes so far.
    pub bytes: u64,
}

impl From<Difference> for DiffEntry {
    fn from(difference: Difference) -> Self {
        let (change, from) = match difference.differs {
            Differs::Added => (Change::Added, None),
            Differs::Removed => (Change::Removed, None),
            Differs::Renamed { from } => (Change::Renamed, Some(encode_path(&from))),
            Differs::Content => (Change::Changed, None),
            Differs::Attributes => (Change::Metadata, None),
        };
        let kind = match difference.kind {
            FileKind::File => Kind::File,
            FileKind::Directory => Kind::Directory,
            FileKind::Symlink => Kind::Symlink,
            _ => Kind::Special,
        };
        DiffEntry { change, kind, path: encode_path(&difference.path), from }
    }
}

impl From<TreeDigest> for DigestInfo {
    fn from(tree: TreeDigest) -> Self {
        DigestInfo { digest: Some(tree.digest.to_string()), entries: tree.entries, bytes: tree.bytes }
    }
}

/// What differs, as a mount answers it.
pub fn differences(vfs: &Vfs, name: Vec<u8>, other: Option<Vec<u8>>) -> Items<DiffEntry> {
    let vfs = vfs.clone();
    let found = async move {
        match vfs.diff_snapshots(&name, other.as_deref()).await {
            Ok(all) => iter(all).map(|difference| Ok(DiffEntry::from(difference))).boxed(),
            Err(error) => once(async move { Err(ApiError::from(error)) }).boxed(),
        }
    };
    once(found).flatten().boxed()
}

/// A digest with its progress, as a mount answers it. Who no longer wants it drops it, and it ends.
pub fn digest_of(vfs: &Vfs, name: Vec<u8>) -> Items<DigestInfo> {
    let (vfs, progress) = (vfs.clone(), Arc::new(DigestProgress::default()));
    let told = Arc::clone(&progress);
    let digest = async move { vfs.digest_snapshot(&name, progress).await }.boxed();
    let next = move |digest: Option<futures::future::BoxFuture<'static, crate::error::Result<TreeDigest>>>| {
        let told = Arc::clone(&told);
        async move {
            let mut digest = digest?;
            match tokio::time::timeout(PROGRESS, &mut digest).await {
                Ok(outcome) => Some((outcome.map(DigestInfo::from).map_err(ApiError::from), None)),
                Err(_) => {
                    let (entries, bytes) = (told.entries.load(Ordering::Relaxed), told.bytes.load(Ordering::Relaxed));
                    Some((Ok(DigestInfo { digest: None, entries, bytes }), Some(digest)))
                }
            }
        }
    };
    unfold(Some(digest), next).boxed()
}

pub(super) async fn diff(State(target): Target, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let name = name_of(query.as_deref())?;
    Ok(respond(target.diff_snapshots(name, parameter(query.as_deref(), "other"))))
}

pub(super) async fn digest(State(target): Target, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    Ok(respond(target.digest_snapshot(name_of(query.as_deref())?)))
}
