//! Release: lets go of the data of files that the bucket has; their names and attributes stay, and reading brings the data back.
//!
//! As FSx for Lustre has it, a file is released if its content is in the bucket as it is here and (with `older-than`) its last access is longer ago than that, counted from
//! when the task was made. Other files below a directory are passed over, uncounted; one that a path names itself fails instead, since it was asked for.
//! What is released twice is released once: a task that is called again needs no cursor.

use super::{Context, ErrorCode, Failure, Job, Step, TaskError, TaskKind, TaskRequest};
use crate::vfs::{ReleasedBlocks, ReleasedFile, Vfs};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// The option that says for how many seconds a file must not have been used.
pub const OLDER_THAN: &str = "older-than";
/// Blocks that are dropped together: each time all file maps are gone through, for those that other files have as well.
const TOGETHER: usize = 256 << 10;
/// Files looked at in one turn.
const FILES: usize = 64;

/// The release job.
pub struct Release {
    vfs: Vfs,
}

impl Release {
    /// Releases data of a file system.
    pub fn new(vfs: Vfs) -> Self {
        Release { vfs }
    }
}

fn older_than_s(options: &BTreeMap<String, String>) -> Result<Option<u64>, TaskError> {
    let mut seconds = None;
    for (name, value) in options {
        let parsed = value.parse().ok().filter(|_| name == OLDER_THAN);
        seconds = Some(parsed.ok_or_else(|| TaskError::Invalid(format!("release: option {name}={value} is not known")))?);
    }
    Ok(seconds)
}

#[async_trait]
impl Job for Release {
    fn kind(&self) -> TaskKind {
        TaskKind::Release
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if request.paths.is_empty() {
            return Err(TaskError::Invalid("release: no path is given".into()));
        }
        older_than_s(&request.options).map(drop)
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let older_than_s = older_than_s(&context.options())?;
        // None at all is asked for with 0.
        let since_ns = older_than_s.filter(|seconds| *seconds > 0).map(|seconds| {
            let ns = i64::try_from(u128::from(seconds) * 1_000_000_000).unwrap_or(i64::MAX);
            context.created_ns().saturating_sub(ns)
        });
        let mut pass = Pass { vfs: &self.vfs, context, since_ns, blocks: ReleasedBlocks::default(), step: Step::default() };
        let mut outcome = Ok(());
        for path in context.paths() {
            outcome = pass.path(&path).await;
            if outcome.is_err() {
                break;
            }
        }
        // Also what was let go of before an interruption is dropped, and counted then.
        pass.settle()?;
        outcome?;
        context.total_is_final();
        Ok(())
    }
}

struct Pass<'a> {
    vfs: &'a Vfs,
    context: &'a Context,
    since_ns: Option<i64>,
    blocks: ReleasedBlocks,
    /// What is to be counted once its blocks are dropped.
    step: Step,
}

impl Pass<'_> {
    async fn path(&mut self, path: &[u8]) -> Result<(), TaskError> {
        let root = self.vfs.find(path).await?;
        // What nobody looked at has no data here.
        let mut walk = self.vfs.walk_files(root, false, None);
        loop {
            let _turn = self.context.turn().await?;
            for _ in 0..FILES {
                match walk.next().await {
                    None => return Ok(()),
                    Some(Ok(found)) => {
                        let released = self.vfs.release_data(found.ino, self.since_ns, &mut self.blocks)?;
                        self.count(path, &found.below, &released);
                    }
                    Some(Err(closed)) => {
                        let failure = (ErrorCode::from(closed.error.kind), closed.error.message);
                        self.fail(path, &closed.below, failure);
                    }
                }
            }
            if self.blocks.len() >= TOGETHER {
                self.settle()?;
            }
        }
    }

    fn count(&mut self, path: &[u8], below: &[u8], released: &ReleasedFile) {
        let is_named = below.is_empty();
        let why = match released {
            ReleasedFile::Released(bytes) => {
                (self.step.found, self.step.succeeded) = (self.step.found + 1, self.step.succeeded + 1);
                self.step.bytes += bytes;
                return;
            }
            ReleasedFile::Busy => (ErrorCode::ResourceBusy, "it is open for writing, or being exported"),
            ReleasedFile::WasReleased if is_named => {
                (self.step.found, self.step.succeeded) = (self.step.found + 1, self.step.succeeded + 1);
                return;
            }
            ReleasedFile::OnlyHere if is_named => {
                (ErrorCode::NotExported, "the bucket does not have it as it is here; export it first")
            }
            ReleasedFile::Pinned if is_named => {
                (ErrorCode::ResourceBusy, "it is pinned; 'forebay hsm clear --norelease' lets go of it")
            }
            ReleasedFile::OnlyHere
            | ReleasedFile::Pinned
            | ReleasedFile::WasReleased
            | ReleasedFile::TooRecent
            | ReleasedFile::Nothing => return,
        };
        self.fail(path, below, (why.0, why.1.to_owned()));
    }

    fn fail(&mut self, path: &[u8], below: &[u8], (code, why): (ErrorCode, String)) {
        self.step.found += 1;
        self.step.failures.push(Failure { path: join(path, below), code, why });
    }

    /// Drops the blocks of what was released so far, and counts it.
    fn settle(&mut self) -> Result<(), TaskError> {
        self.vfs.drop_released(&mut self.blocks)?;
        self.context.record(std::mem::take(&mut self.step));
        Ok(())
    }
}

/// A path below the root from one that a task is about and one below that.
pub(super) fn join(path: &[u8], below: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match (path.is_empty(), below.is_empty()) {
        (true, _) => below.to_vec(),
        (_, true) => path.to_vec(),
        _ => [path, below].join(&b'/'),
    }
}
