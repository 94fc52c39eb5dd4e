//! A checkpoint: every rank writes a file of its own and has it on disk (fsync), then every rank reads its file back.
//!
//! As MLPerf Storage v2.0 has it ("Checkpointing" in its rules): all ranks at once, fsync before a save counts as done, the cache emptied before a restore,
//! the duration that of the slowest rank. There ten checkpoints are saved and then ten restored; here each is restored before the next is saved and
//! removed after, so that there is never more than one on disk. What is read is the page cache's if it could not be emptied, which only
//! the file system knows.

use super::dataset::evict;
use super::error::{At, MlError};
use super::halt::{Gate, Halt};
use super::noise::Stamped;
use super::report::{CheckpointFigures, DatasetFacts, Figures, MlReport, PageCache, Transfer};
use super::scratch::Scratch;
use super::settings::MlSettings;
use super::stream::Stream;
use super::{Event, Progress};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is written or read in a call. `torch.save` writes a tensor in one; this is a middling tensor.
const CALL: usize = 8 << 20;

/// Saves and restores as many times as wanted.
pub(super) fn run(dir: &Path, settings: &MlSettings, progress: &dyn Progress, halt: &Halt<'_>) -> Result<MlReport, MlError> {
    let mut scratch = Scratch::create(dir, settings.workload.name(), settings.dataset_bytes)?;
    let (of, mut figures) = (settings.rounds(), CheckpointFigures { saves: Vec::new(), restores: Vec::new() });
    let sizes = sizes(settings.dataset_bytes, settings.accelerators as u64);
    for number in 1..=of {
        progress.event(Event::Round { number, of });
        let files: Vec<_> =
            (0..sizes.len()).map(|rank| scratch.path().join(format!("step-{number}-rank-{rank:05}.pt"))).collect();
        figures.saves.push(together(
            &sizes,
            halt,
            |rank| {
                let seed = settings.seed ^ (u64::from(number) << 32) ^ rank as u64;
                let mut noise = Stamped::new(seed, CALL);
                // Boxed so that both the memory and the work are ready before the clock runs.
                Box::new(move |path: &Path, bytes| save(path, bytes, &mut noise, halt))
            },
            &files,
        )?);
        evict(&files, halt)?;
        figures.restores.push(together(&sizes, halt, |_| Box::new(|path: &Path, bytes| restore(path, bytes, halt)), &files)?);
        if number < of || !settings.keep {
            files.iter().try_for_each(|path| fs::remove_file(path).at("remove", path))?;
        }
    }
    if settings.keep {
        scratch.stay();
    }
    let facts = DatasetFacts {
        files: sizes.len() as u64,
        samples: sizes.len() as u64,
        bytes: settings.dataset_bytes,
        existing: None,
        kept: scratch.finish()?,
        page_cache: PageCache::Evicted,
    };
    Ok(MlReport::new(settings, facts, Figures::Checkpoint(figures)))
}

/// What a rank does with its file of so many bytes.
type Work<'a> = Box<dyn FnMut(&Path, u64) -> Result<(), MlError> + 'a>;

/// Has every rank do its work at the same time, and takes the time of each.
fn together<'a>(
    sizes: &[u64],
    halt: &Halt<'_>,
    prepare: impl Fn(usize) -> Work<'a> + Sync,
    files: &[PathBuf],
) -> Result<Transfer, MlError> {
    let gate = Gate::new(sizes.len());
    let ranks = halt.in_parallel(sizes.len(), |rank| {
        let (seat, mut work) = (gate.seat(), prepare(rank));
        seat.wait(halt)?;
        let begin = Instant::now();
        work(&files[rank], sizes[rank])?;
        Ok::<(u64, Duration), MlError>((sizes[rank], begin.elapsed()))
    })?;
    Ok(Transfer::of(&ranks))
}

fn save(path: &Path, bytes: u64, noise: &mut Stamped, halt: &Halt<'_>) -> Result<(), MlError> {
    let mut file = File::create_new(path).at("create", path)?;
    let mut left = bytes;
    while left > 0 {
        halt.check()?;
        let piece = noise.next(left);
        file.write_all(piece).at("write", path)?;
        left -= piece.len() as u64;
    }
    file.sync_all().at("sync", path)
}

fn restore(path: &Path, bytes: u64, halt: &Halt<'_>) -> Result<(), MlError> {
    let mut stream = Stream::open(path, CALL).at("open", path)?;
    let mut left = bytes;
    while left > 0 {
        halt.check()?;
        let piece = left.min(CALL as u64);
        stream.pass(piece, |_| ()).at("read", path)?;
        left -= piece;
    }
    Ok(())
}

/// The bytes of each rank's part.
fn sizes(bytes: u64, ranks: u64) -> Vec<u64> {
    (0..ranks).map(|rank| bytes / ranks + u64::from(rank < bytes % ranks)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn parts_are_the_whole() {
        assert_eq!(sizes(10, 4), [3, 3, 2, 2]);
        assert_eq!(sizes(7, 1), [7]);
    }

    #[test]
    fn what_is_saved_has_its_size_and_is_read_to_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.pt");
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        let bytes = 2 * CALL as u64 + 12_345;
        save(&path, bytes, &mut Stamped::new(1, CALL), &halt).expect("saved");
        assert_eq!(fs::metadata(&path).expect("there").len(), bytes);
        restore(&path, bytes, &halt).expect("read");
        assert!(restore(&path, bytes + 1, &halt).is_err(), "a byte that is missing is noticed");
    }
}
