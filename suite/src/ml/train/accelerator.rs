//! An emulated accelerator.

use super::batches::{Batch, Batches};
use super::utilisation::{RankEpoch, Step};
use crate::ml::error::MlError;
use crate::ml::halt::{Halt, Seat};
use crate::ml::workload::Params;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

/// One of them, and what it is to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accelerator<'a> {
    pub(super) params: &'a Params,
    pub(super) files: &'a [PathBuf],
    pub(super) steps: u64,
}

impl Accelerator<'_> {
    /// Goes through an epoch, in step with the others.
    pub(super) fn epoch(self, seat: Seat<'_>, halt: &Halt<'_>) -> Result<RankEpoch, MlError> {
        thread::scope(|scope| {
            let begin = Instant::now();
            let mut batches = Batches::start(scope, self.params, self.files, halt);
            let mut steps = Vec::new();
            for _ in 0..self.steps {
                let loading = Instant::now();
                let Some(batch) = batches.next()? else { break };
                steps.push(self.step(loading, batch, halt)?);
                seat.wait(halt)?;
            }
            Ok(RankEpoch { span: begin.elapsed(), steps })
        })
    }

    fn step(self, loading: Instant, batch: Batch, halt: &Halt<'_>) -> Result<Step, MlError> {
        let computing = Instant::now();
        halt.compute(self.params.compute)?;
        Ok(Step { load: computing - loading, compute: computing.elapsed(), samples: batch.samples, bytes: batch.bytes })
    }
}
