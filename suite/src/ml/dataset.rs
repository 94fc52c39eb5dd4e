//! The files of a training dataset: making them, or finding those that are there.

use super::error::{At, MlError};
use super::format::{tar, tfrecord};
use super::halt::Halt;
use super::noise::Noise;
use super::plan::{self, PlannedFile};
use super::report::{DatasetFacts, PageCache};
use super::scratch::Scratch;
use super::settings::MlSettings;
use super::workload::{Layout, Params};
use super::{Event, Progress};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads that make files: enough that a file system which answers slowly is kept busy.
const MAKERS: usize = 4;
/// Classes of an image dataset, at most; ImageNet-1k has as many.
const CLASSES: usize = 1000;

/// Files to read.
#[derive(Debug)]
pub(super) struct Dataset {
    /// In the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// What to say of them.
    pub(super) facts: DatasetFacts,
    scratch: Option<Scratch>,
}

impl Dataset {
    /// Finds the files, or makes them below `dir`.
    pub(super) fn open(
        dir: &Path,
        settings: &MlSettings,
        params: &Params,
        progress: &dyn Progress,
        halt: &Halt<'_>,
    ) -> Result<Self, MlError> {
        let (files, scratch) = match &settings.dataset {
            Some(existing) => (find(existing, endings(params.layout), halt)?, None),
            None => {
                let (files, scratch) = make(dir, settings, params, progress, halt)?;
                (files, Some(scratch))
            }
        };
        let sizes: Result<Vec<u64>, MlError> =
            files.iter().map(|path| Ok(fs::metadata(path).at("look at", path)?.len())).collect();
        let bytes = sizes?.iter().sum();
        plan::check_enough(params, files.len() as u64, bytes, settings.accelerators)?;
        let facts = DatasetFacts {
            files: files.len() as u64,
            samples: files.len() as u64 * params.samples_per_file,
            bytes,
            existing: settings.dataset.clone(),
            kept: None,
            page_cache: PageCache::of(bytes, settings.evict),
        };
        Ok(Dataset { files, facts, scratch })
    }

    /// Removes what was made; returns what to say of the files.
    pub(super) fn close(self) -> Result<DatasetFacts, MlError> {
        let kept = self.scratch.map_or(Ok(None), Scratch::finish)?;
        Ok(DatasetFacts { kept, ..self.facts })
    }
}

/// Asks the kernel to forget the pages of files. A file system that does not know how is not asked twice.
pub(super) fn evict(files: &[PathBuf], halt: &Halt<'_>) -> Result<(), MlError> {
    for path in files {
        halt.check()?;
        let file = File::open(path).at("open", path)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).at("evict", path)?;
    }
    Ok(())
}

/// How the names of files of such a layout end.
fn endings(layout: Layout) -> &'static [&'static str] {
    match layout {
        Layout::Npz => &["npz"],
        Layout::TfRecord => &["tfrecord", "tfrecords"],
        Layout::Images => &["jpg", "jpeg", "JPEG", "png", "webp"],
        Layout::Tar => &["tar"],
    }
}

/// All files below `dir` with one of the endings, in the order of their names.
pub(super) fn find(dir: &Path, wanted: &'static [&'static str], halt: &Halt<'_>) -> Result<Vec<PathBuf>, MlError> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        halt.check()?;
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let path = entry.path();
            if entry.file_type().at("look at", &path)?.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ending| wanted.iter().any(|wanted| ending == *wanted)) {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() { Err(MlError::NoFiles { path: dir.to_owned(), wanted }) } else { Ok(files) }
}

fn make(
    dir: &Path,
    settings: &MlSettings,
    params: &Params,
    progress: &dyn Progress,
    halt: &Halt<'_>,
) -> Result<(Vec<PathBuf>, Scratch), MlError> {
    let planned = plan::files(params, settings.dataset_bytes, settings.accelerators, settings.seed)?;
    let bytes = planned.iter().map(|file| file.bytes(params.layout)).sum();
    let mut scratch = Scratch::create(dir, settings.workload.name(), bytes)?;
    let paths = paths(scratch.path(), planned.len(), params.layout)?;
    let (next, written) = (AtomicUsize::new(0), AtomicU64::new(0));
    halt.in_parallel(MAKERS.min(planned.len()), |_| {
        loop {
            halt.check()?;
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (Some(file), Some(path)) = (planned.get(number), paths.get(number)) else { return Ok(()) };
            make_file(path, *file, params.layout, settings.seed ^ ((number as u64) << 20), halt)?;
            let done = file.bytes(params.layout);
            progress.event(Event::Generated { bytes: written.fetch_add(done, Ordering::Relaxed) + done, of: bytes });
        }
    })?;
    if settings.keep {
        scratch.stay();
    }
    Ok((paths, scratch))
}

/// Where the files will be; the directories between are made.
fn paths(root: &Path, count: usize, layout: Layout) -> Result<Vec<PathBuf>, MlError> {
    let ending = endings(layout)[0];
    if layout != Layout::Images {
        return Ok((0..count).map(|number| root.join(format!("{number:07}.{ending}"))).collect());
    }
    let classes = CLASSES.min(count.div_ceil(2));
    for class in 0..classes {
        let path = root.join(format!("n{class:08}"));
        fs::create_dir(&path).at("create", &path)?;
    }
    let mut paths: Vec<_> = (0..count).map(|n| root.join(format!("n{:08}/{n:07}.{ending}", n % classes))).collect();
    paths.sort();
    Ok(paths)
}

/// Writes a file and has it on disk, so that writing back is not what the first epoch waits for, and pages can be forgotten.
fn make_file(path: &Path, planned: PlannedFile, layout: Layout, seed: u64, halt: &Halt<'_>) -> Result<(), MlError> {
    let file = File::create_new(path).at("create", path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut noise = Noise::new(seed);
    for number in 0..planned.records {
        halt.check()?;
        match layout {
            Layout::Npz | Layout::Images => write_noise(&mut out, &mut noise, planned.record_bytes).map(drop),
            Layout::TfRecord => write_record(&mut out, &mut noise, planned.record_bytes),
            Layout::Tar => write_sample(&mut out, &mut noise, number, planned.record_bytes),
        }
        .at("write", path)?;
    }
    if layout == Layout::Tar {
        let end = planned.bytes(layout) - planned.records * tar::sample_bytes(planned.record_bytes);
        out.write_all(&vec![0; end as usize]).at("write", path)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).at("write", path)?;
    file.sync_data().at("sync", path)
}

/// Writes so many bytes; returns their CRC-32C.
fn write_noise(out: &mut impl Write, noise: &mut Noise, bytes: u64) -> io::Result<u32> {
    let (mut left, mut crc) = (bytes, 0);
    while left > 0 {
        let piece = noise.next(left);
        crc = crc32c::crc32c_append(crc, piece);
        out.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(crc)
}

fn write_record(out: &mut impl Write, noise: &mut Noise, bytes: u64) -> io::Result<()> {
    out.write_all(&tfrecord::head(bytes))?;
    let crc = write_noise(out, noise, bytes)?;
    out.write_all(&tfrecord::tail(crc))
}

fn write_sample(out: &mut impl Write, noise: &mut Noise, number: u64, bytes: u64) -> io::Result<()> {
    let pad = |bytes: u64| vec![0; (tar::padded(bytes) - bytes) as usize];
    out.write_all(&tar::header(&tar::Member { name: format!("{number:06}.jpg"), bytes }))?;
    write_noise(out, noise, bytes)?;
    out.write_all(&pad(bytes))?;
    out.write_all(&tar::header(&tar::Member { name: format!("{number:06}.cls"), bytes: tar::LABEL }))?;
    out.write_all(format!("{:03}", number % CLASSES as u64).as_bytes())?;
    out.write_all(&pad(tar::LABEL))
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
