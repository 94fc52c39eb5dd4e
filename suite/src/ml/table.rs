//! What was measured, for people.

use super::report::{CheckpointFigures, DatasetFacts, Figures, LoadFigures, MlReport, PageCache, TrainingFigures, Transfer};
use super::workload::Params;
use std::fmt::{Display, Formatter, Result};

const MIB: f64 = 1_048_576.0;

impl Display for MlReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let trains = matches!(self.figures, Figures::Training(_));
        let who = if trains { format!("emulated {}", format!("{:?}", self.gpu).to_uppercase()) } else { "rank".into() };
        writeln!(f, "{}, {} {who}{}", self.workload, self.accelerators, if self.accelerators == 1 { "" } else { "s" })?;
        if let Some(params) = &self.params {
            write_params(f, params)?;
        }
        if self.has_overrides {
            writeln!(f, "parameters were changed: not comparable with other figures of this workload")?;
        }
        write_dataset(f, &self.dataset)?;
        match &self.figures {
            Figures::Training(training) => write_training(f, training),
            Figures::Load(load) => write_loads(f, load),
            Figures::Checkpoint(checkpoint) => write_checkpoint(f, checkpoint),
        }
    }
}

fn write_params(f: &mut Formatter<'_>, params: &Params) -> Result {
    let Params { batch_size, compute, read_threads, samples_per_file, record_bytes, .. } = params;
    writeln!(
        f,
        "a step is {batch_size} of {record_bytes} bytes ({samples_per_file} in a file) and {:.2} ms of computing; {read_threads} readers each",
        compute.as_secs_f64() * 1e3,
    )
}

fn write_dataset(f: &mut Formatter<'_>, dataset: &DatasetFacts) -> Result {
    let size = dataset.bytes as f64 / MIB;
    let origin = dataset.existing.as_ref().map_or_else(String::new, |path| format!(" that existed in {}", path.display()));
    writeln!(f, "{} files, {size:.1} MiB{origin}; {}", dataset.files, cache_words(dataset.page_cache))?;
    dataset.kept.as_ref().map_or(Ok(()), |path| writeln!(f, "the files stay in {}", path.display()))
}

fn cache_words(cache: PageCache) -> &'static str {
    match cache {
        PageCache::Evicted => "the page cache is emptied of them before each round, other caches are not",
        PageCache::TooSmall => "five times the memory or more",
        PageCache::MayAnswer => "less than five times the memory: the page cache may answer instead of the storage",
    }
}

fn write_training(f: &mut Formatter<'_>, training: &TrainingFigures) -> Result {
    writeln!(
        f,
        "\n{:>7} {:>8} {:>12} {:>10} {:>7} {:>13} {:>9}",
        "epoch", "AU %", "samples/s", "MiB/s", "steps", "first batch s", "seconds"
    )?;
    for epoch in &training.epochs {
        let (first, seconds) = (epoch.first_batch_s, epoch.seconds);
        write_line(f, &epoch.number.to_string(), epoch.utilisation_percent, epoch.samples_per_second, epoch.mib_per_second)?;
        writeln!(f, " {:>7} {first:>13.3} {seconds:>9.2}", epoch.counted_steps)?;
    }
    write_line(f, "mean", training.utilisation_percent, training.samples_per_second, training.mib_per_second)?;
    writeln!(f)?;
    match (training.wanted_percent, training.is_met) {
        (Some(wanted), Some(true)) => writeln!(f, "\nthe storage keeps up: MLPerf asks for {wanted:.0} %"),
        (Some(wanted), _) => writeln!(f, "\nthe storage does not keep up: MLPerf asks for {wanted:.0} %"),
        _ => Ok(()),
    }
}

fn write_line(f: &mut Formatter<'_>, name: &str, utilisation: f64, samples: f64, mib: f64) -> Result {
    write!(f, "{name:>7} {utilisation:>8.2} {samples:>12.2} {mib:>10.1}")
}

fn write_loads(f: &mut Formatter<'_>, load: &LoadFigures) -> Result {
    write_head(f, "load")?;
    load.loads.iter().enumerate().try_for_each(|(number, load)| write_transfer(f, &format!("{}", number + 1), load))
}

fn write_checkpoint(f: &mut Formatter<'_>, checkpoint: &CheckpointFigures) -> Result {
    write_head(f, "checkpoint")?;
    for (number, (save, restore)) in checkpoint.saves.iter().zip(&checkpoint.restores).enumerate() {
        write_transfer(f, &format!("save {}", number + 1), save)?;
        write_transfer(f, &format!("restore {}", number + 1), restore)?;
    }
    Ok(())
}

fn write_head(f: &mut Formatter<'_>, what: &str) -> Result {
    writeln!(f, "\n{what:>12} {:>9} {:>10} {:>22}", "seconds", "MiB/s", "MiB/s of slowest rank")
}

fn write_transfer(f: &mut Formatter<'_>, name: &str, transfer: &Transfer) -> Result {
    let Transfer { seconds, mib_per_second, slowest_rank_mib_per_second } = transfer;
    writeln!(f, "{name:>12} {seconds:>9.3} {mib_per_second:>10.1} {slowest_rank_mib_per_second:>22.1}")
}
