//! Where completion reports go: a directory of this machine, or a bucket, each with `task-N/failures.csv` (`report.csv` of an import) below it.
//!
//! 1. Nothing that is there is replaced, but this task's own report: another file system numbers its tasks from 1 as well.
//! 2. A report that could not be delivered stays where it grew, and the task says where.

use super::report::{self, Spool};
use super::{TaskError, TaskKind};
use crate::clock::SharedClock;
use crate::config::RepositorySettings;
use crate::repository::limits::{self, MOST_KEY, USUAL_PART};
use crate::repository::retry::RetryConfig;
use crate::repository::url::RepositoryUrl;
use crate::repository::write::{BeginRequest, CompleteRequest, PartRequest, PutRequest, SystemHeaders, Upload};
use crate::repository::{
    self, ObjectHeaders, Payload, Precondition, Repository, RepositoryConfig, StoreError, Urgency, WriteToken,
};
use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer reports go out in parts.
const WHOLE_UP_TO: u64 = 2 * USUAL_PART;
/// What follows the prefix in a key at most: `/task-`, a number, `/failures.csv`.
const TAIL: usize = 40;

/// What it takes to deliver reports to buckets.
pub struct ReportStores {
    /// The store that is mounted.
    pub repository: Arc<Repository>,
    /// How it was reached; other stores of its kind are reached likewise.
    pub settings: RepositorySettings,
    /// The file system, whose reports are known again by it.
    pub identity: u128,
    /// Time.
    pub clock: SharedClock,
    /// Where requests run.
    pub runtime: tokio::runtime::Handle,
}

enum Place {
    Directory(PathBuf),
    Bucket { repository: Arc<Repository>, prefix: String, is_mounted: bool },
}

/// A place for people, without the slash at its end.
fn shown(place: &str) -> &str {
    place.trim_end_matches('/')
}

/// Where the report of a task is, or will be.
pub(crate) fn report_of(place: &str, id: u64, kind: TaskKind) -> String {
    format!("{}/task-{id}/{}", shown(place), report::name_of(kind))
}

impl ReportStores {
    /// Checks where a report is to go, before there is a task. Blocks; not from within the runtime.
    pub(super) fn check(&self, place: &str) -> Result<(), TaskError> {
        match self.open(place)? {
            Place::Directory(path) => report::check(&path),
            Place::Bucket { prefix, .. } if prefix.len() + TAIL > MOST_KEY => {
                Err(refused(place, format!("the key would have more than {MOST_KEY} bytes")))
            }
            Place::Bucket { is_mounted: true, .. } => Ok(()),
            Place::Bucket { repository, prefix, .. } => {
                self.runtime.block_on(repository.check_access(&prefix)).map_err(|error| refused(place, error))
            }
        }
    }

    /// Puts a report in its place, whole or not at all, and removes the spool file. Blocks; not from within the runtime.
    pub(super) fn publish(&self, spool: Spool, place: &str, id: u64, kind: TaskKind) -> Result<(), TaskError> {
        let at = report_of(place, id, kind);
        let kept = spool.path().to_owned();
        let undelivered = |why: String| TaskError::ReportStore { place: at.clone(), why, spool: kept.clone() };
        match self.open(place)? {
            Place::Directory(path) => {
                let target = report::file_of(&path, id, kind);
                spool.publish(&target).map_err(|source| undelivered(source.to_string()))
            }
            Place::Bucket { repository, prefix, .. } => {
                let key = format!("{prefix}task-{id}/{}", report::name_of(kind));
                // The same after a restart: what was delivered and not recorded is known again.
                let token = WriteToken::from_bits(self.identity.rotate_left(32) ^ u128::from(id));
                let sent = self.runtime.block_on(send(&repository, &key, &kept, token));
                sent.map_err(|why| undelivered(why.to_string()))?;
                spool.remove().map_err(|source| undelivered(source.to_string()))
            }
        }
    }

    fn open(&self, place: &str) -> Result<Place, TaskError> {
        if !place.contains("://") {
            return Ok(Place::Directory(place.into()));
        }
        let url: RepositoryUrl = place.parse().map_err(|error| refused(place, error))?;
        if let RepositoryUrl::Directory { path } = url {
            return Ok(Place::Directory(path));
        }
        let prefix = repository::keymap::mount_prefix(url.prefix());
        let mounted = self.settings.url.parse::<RepositoryUrl>().ok();
        if mounted.as_ref().is_some_and(|mounted| mounted.is_same_store(&url)) {
            return Ok(Place::Bucket { repository: Arc::clone(&self.repository), prefix, is_mounted: true });
        }
        let is_same_kind = mounted.is_some_and(|mounted| std::mem::discriminant(&mounted) == std::mem::discriminant(&url));
        let settings = RepositorySettings { url: place.to_owned(), ..self.settings.clone() };
        let settings = if is_same_kind { settings } else { RepositorySettings::plain(place, self.settings.deadline) };
        let (store, _) = repository::open(&settings).map_err(|error| refused(place, error))?;
        let retry = RetryConfig { deadline: settings.deadline, ..RetryConfig::default() };
        let config = RepositoryConfig { retry, ..RepositoryConfig::default() };
        let repository = Arc::new(Repository::new(store, config, Arc::clone(&self.clock)));
        Ok(Place::Bucket { repository, prefix, is_mounted: false })
    }
}

fn refused(place: &str, why: impl std::fmt::Display) -> TaskError {
    TaskError::Invalid(format!("--report {place}: {why}"))
}

/// Why a report could not be sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("the report of another file system's task is there; give a place of its own")]
    Taken,
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Spool(#[from] std::io::Error),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => Unsent::Taken,
            other => Unsent::Store(other),
        }
    }
}

async fn send(repository: &Repository, key: &str, spool: &Path, token: WriteToken) -> Result<(), Unsent> {
    let file = File::open(spool)?;
    let size = file.metadata()?.len();
    let system = SystemHeaders { content_type: Some("text/csv".to_owned()), ..SystemHeaders::default() };
    let headers = ObjectHeaders { system, ..ObjectHeaders::default() };
    if size > WHOLE_UP_TO {
        match send_parts(repository, key, &file, size, headers.clone(), token).await {
            Err(Unsent::Store(StoreError::Unsupported { .. })) => {}
            done => return done,
        }
    }
    let body = read(&file, 0, size)?;
    let request = PutRequest { key: key.to_owned(), body, headers, precondition: Precondition::Absent };
    repository.put(request, token, Urgency::Ahead).await?;
    Ok(())
}

async fn send_parts(
    repository: &Repository,
    key: &str,
    file: &File,
    size: u64,
    headers: ObjectHeaders,
    token: WriteToken,
) -> Result<(), Unsent> {
    let part = limits::part_size_for(size).unwrap_or(USUAL_PART);
    let begin = BeginRequest { key: key.to_owned(), headers };
    let upload = repository.begin_multipart(begin, token, Urgency::Ahead).await?.upload;
    let done = join(repository, upload.clone(), file, size, part, token).await;
    if done.is_err()
        && let Err(error) = repository.abort_multipart(&upload, Urgency::Ahead).await
    {
        tracing::warn!(key, %error, "an unfinished upload of a report could not be aborted");
    }
    done
}

async fn join(
    repository: &Repository,
    upload: Upload,
    file: &File,
    size: u64,
    part: u64,
    token: WriteToken,
) -> Result<(), Unsent> {
    let mut parts = Vec::new();
    for (number, at) in (1..).zip((0..size).step_by(part as usize)) {
        let body = read(file, at, part.min(size - at))?;
        parts.push(repository.put_part(PartRequest { upload: upload.clone(), number, body }, Urgency::Ahead).await?);
    }
    let complete = CompleteRequest { upload, parts, precondition: Precondition::Absent };
    repository.complete_multipart(complete, token, Urgency::Ahead).await?;
    Ok(())
}

fn read(file: &File, at: u64, len: u64) -> std::io::Result<Payload> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Bytes::from(bytes).into())
}
