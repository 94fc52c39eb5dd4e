//! What an accelerator takes batches from.

use super::source::{Files, Shards};
use super::{order, tfdata, torch};
use crate::ml::error::MlError;
use crate::ml::halt::Halt;
use crate::ml::workload::{Layout, Loader, Params};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread::Scope;

/// What was read for a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) samples: u64,
    pub(super) bytes: u64,
}

impl Batch {
    /// With one more sample.
    pub(super) fn with(self, bytes: u64) -> Self {
        Batch { samples: self.samples + 1, bytes: self.bytes + bytes }
    }
}

/// A batch, or why there is none.
pub(super) type Read = Result<Batch, MlError>;

/// A loader at work. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) enum Batches {
    Torch(torch::Workers),
    TfData(Receiver<Read>),
}

impl Batches {
    /// Begins to read.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        params: &'scope Params,
        files: &'scope [PathBuf],
        halt: &'scope Halt<'_>,
    ) -> Self {
        if params.loader == Loader::TfData {
            return Batches::TfData(tfdata::start(scope, params, files, halt));
        }
        // As DLIO divides what is to be ready among the workers; each has at least one batch to work on.
        let ahead = params.prefetch_batches.div_ceil(params.read_threads).max(1);
        let workers = 0..params.read_threads;
        Batches::Torch(if params.layout == Layout::Tar {
            let shards = |worker| order::dealt(files, worker, params.read_threads).cloned().collect();
            torch::start(scope, workers.map(|worker| Shards::new(shards(worker), params.batch_size, halt)).collect(), ahead)
        } else {
            let sources = workers.map(|worker| Files::new(files, worker, params, halt));
            torch::start(scope, sources.collect(), ahead)
        })
    }

    /// The next batch; none at the end of the epoch.
    pub(super) fn next(&mut self) -> Result<Option<Batch>, MlError> {
        match self {
            Batches::Torch(workers) => workers.next(),
            Batches::TfData(batches) => batches.recv().ok().transpose(),
        }
    }
}
