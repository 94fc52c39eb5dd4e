//! Export: what was made and changed here below paths, to the bucket.
//!
//! It goes through the tree as it is known and sends what the bucket does not have; so a task that is called again after a restart
//! sends what is left, and needs no cursor. A file that has another name here is copied at the server, and its old object goes. Objects whose files were deleted here
//! go with option `prune` only. `on-conflict` says what is done where the bucket has something else than was seen last.

use super::{Context, Failure, Job, Step, TaskError, TaskKind, TaskRequest, Turn};
use crate::config::OnConflict;
use crate::vfs::{ExportEvents, ExportResult, ExportTree, Exported, Vfs};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The option that has objects deleted whose files were deleted here.
pub const PRUNE: &str = "prune";
/// The option that says what is done about conflicts.
pub const ON_CONFLICT: &str = "on-conflict";

/// The export job.
pub struct Export {
    vfs: Vfs,
}

impl Export {
    /// Exports from a file system.
    pub fn new(vfs: Vfs) -> Self {
        Export { vfs }
    }
}

struct How {
    prune: bool,
    on_conflict: OnConflict,
}

fn how(options: &BTreeMap<String, String>) -> Result<How, TaskError> {
    let mut how = How { prune: false, on_conflict: OnConflict::Fail };
    for (name, value) in options {
        match (name.as_str(), value.as_str()) {
            (PRUNE, "true") => how.prune = true,
            (PRUNE, "false") => how.prune = false,
            (ON_CONFLICT, "fail") => how.on_conflict = OnConflict::Fail,
            (ON_CONFLICT, "overwrite") => how.on_conflict = OnConflict::Overwrite,
            (ON_CONFLICT, "skip") => how.on_conflict = OnConflict::Skip,
            (ON_CONFLICT, "keep-both") => how.on_conflict = OnConflict::KeepBoth,
            _ => return Err(TaskError::Invalid(format!("export: option {name}={value} is not known"))),
        }
    }
    Ok(how)
}

#[async_trait]
impl Job for Export {
    fn kind(&self) -> TaskKind {
        TaskKind::Export
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if request.paths.is_empty() {
            return Err(TaskError::Invalid("export: no path is given".into()));
        }
        how(&request.options).map(drop)
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let how = how(&context.options())?;
        // Of less than all there is no count.
        if context.paths().iter().any(Vec::is_empty) {
            context.expect(self.vfs.unexported(how.prune)?);
        }
        for path in context.paths() {
            let root = self.vfs.known_at(&path)?;
            let tree = ExportTree { root, on_conflict: how.on_conflict, prune: how.prune };
            let shown = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
            self.vfs.export_tree(tree, shown, &Told(context)).await?;
            if context.is_stopped() {
                return Err(TaskError::Stopped);
            }
        }
        context.total_is_final();
        Ok(())
    }
}

/// Tells the task.
struct Told<'a>(&'a Context);

#[async_trait]
impl ExportEvents for Told<'_> {
    type Turn = Turn;

    async fn turn(&self) -> Option<Turn> {
        self.0.turn().await.ok()
    }

    fn ended(&self, path: &Path, result: &ExportResult) {
        let step = match result {
            Ok(Exported::Sent(bytes)) => Step { found: 1, succeeded: 1, bytes: *bytes, ..Step::default() },
            Ok(Exported::Unchanged | Exported::Skipped) => Step { found: 1, succeeded: 1, ..Step::default() },
            Ok(Exported::Nothing) => return,
            Err(failure) => {
                let path = path.as_os_str().as_bytes().to_vec();
                let failure = Failure { path, code: failure.code, why: failure.message.clone() };
                Step { found: 1, failures: vec![failure], ..Step::default() }
            }
        };
        self.0.record(step);
    }

    fn is_canceled(&self) -> bool {
        self.0.is_stopped()
    }
}
