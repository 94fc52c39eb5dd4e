//! What PyTorch's workers read: files that are a sample each, or shards of many.

use super::batches::Batch;
use super::torch::Source;
use crate::ml::error::{At, In, MlError};
use crate::ml::format::tar;
use crate::ml::halt::Halt;
use crate::ml::stream::Stream;
use crate::ml::workload::{Layout, Params};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What numpy reads of an archive at a time (`numpy.lib.format.BUFFER_SIZE`).
const NPZ_CALL: usize = 256 << 10;
/// What Pillow reads of an image at a time (`PIL.ImageFile.MAXBLOCK`).
const IMAGE_CALL: usize = 64 << 10;
/// The end record of a zip archive, which numpy reads first, and what is read around it to find the directory.
const ZIP_END: [u64; 2] = [22, 8192];

/// Files, of which this worker reads every so many batches.
#[derive(Debug)]
pub(super) struct Files<'a> {
    files: &'a [PathBuf],
    layout: Layout,
    batch: usize,
    next: usize,
    stride: usize,
    halt: &'a Halt<'a>,
}

impl<'a> Files<'a> {
    pub(super) fn new(files: &'a [PathBuf], worker: usize, params: &Params, halt: &'a Halt<'_>) -> Self {
        let batch = params.batch_size as usize;
        Files { files, layout: params.layout, batch, next: worker, stride: params.read_threads, halt }
    }
}

impl Source for Files<'_> {
    fn next(&mut self) -> Result<Option<Batch>, MlError> {
        let first = self.next * self.batch;
        self.next += self.stride;
        let Some(files) = self.files.get(first..first + self.batch) else { return Ok(None) };
        let mut batch = Batch::default();
        for path in files {
            self.halt.check()?;
            batch = batch.with(read_whole(path, self.layout).at("read", path)?);
        }
        Ok(Some(batch))
    }
}

/// Reads a file as the reader of its format does; returns its size.
fn read_whole(path: &Path, layout: Layout) -> io::Result<u64> {
    if layout == Layout::Images {
        return Stream::open(path, IMAGE_CALL)?.drain();
    }
    let mut stream = Stream::open(path, NPZ_CALL)?;
    let size = stream.file().metadata()?.len();
    let mut end = [0; ZIP_END[1] as usize];
    for len in ZIP_END.map(|len| len.min(size)) {
        stream.file().read_exact_at(&mut end[..len as usize], size - len)?;
    }
    stream.drain()
}

/// Shards that this worker reads one after the other.
#[derive(Debug)]
pub(super) struct Shards<'a> {
    /// The next is the last.
    left: Vec<PathBuf>,
    open: Option<Shard>,
    batch: u64,
    halt: &'a Halt<'a>,
}

impl<'a> Shards<'a> {
    pub(super) fn new(mut shards: Vec<PathBuf>, batch: u64, halt: &'a Halt<'_>) -> Self {
        shards.reverse();
        Shards { left: shards, open: None, batch, halt }
    }

    /// Reads over a sample; returns how many bytes of files that took, none when there is no more.
    fn sample(&mut self) -> Result<Option<u64>, MlError> {
        loop {
            if let Some(shard) = &mut self.open {
                if let Some(bytes) = shard.sample()? {
                    return Ok(Some(bytes));
                }
                self.open = None;
            }
            let Some(path) = self.left.pop() else { return Ok(None) };
            self.open = Some(Shard::open(path)?);
        }
    }
}

impl Source for Shards<'_> {
    fn next(&mut self) -> Result<Option<Batch>, MlError> {
        let mut batch = Batch::default();
        while batch.samples < self.batch {
            self.halt.check()?;
            let Some(bytes) = self.sample()? else { return Ok(None) };
            batch = batch.with(bytes);
        }
        Ok(Some(batch))
    }
}

/// A shard being read from its beginning.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    stream: Stream,
    /// The header that told where the sample before it ends.
    pending: Option<tar::Member>,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, MlError> {
        let stream = Stream::open(&path, tar::RECORD).at("open", &path)?;
        Ok(Shard { path, stream, pending: None })
    }

    fn sample(&mut self) -> Result<Option<u64>, MlError> {
        let before = self.stream.bytes;
        let pending = self.pending.take();
        let Some(first) = pending.map_or_else(|| self.header(), |member| Ok(Some(member)))? else { return Ok(None) };
        self.pass(&first)?;
        while let Some(member) = self.header()? {
            if member.key() != first.key() {
                self.pending = Some(member);
                break;
            }
            self.pass(&member)?;
        }
        Ok(Some(self.stream.bytes - before))
    }

    fn header(&mut self) -> Result<Option<tar::Member>, MlError> {
        let mut header = [0; tar::BLOCK];
        if !self.stream.take(&mut header).at("read", &self.path)? {
            return Ok(None);
        }
        tar::member(&header).in_file(&self.path)
    }

    fn pass(&mut self, member: &tar::Member) -> Result<(), MlError> {
        self.stream.pass(tar::padded(member.bytes), |_| ()).at("read", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::AtomicBool;

    fn shard(samples: u64, image: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 0..samples {
            for (ending, len) in [("jpg", image), ("cls", 3)] {
                let member = tar::Member { name: format!("{number:06}.{ending}"), bytes: len as u64 };
                bytes.extend(tar::header(&member));
                bytes.resize(bytes.len() + tar::padded(len as u64) as usize, 7);
            }
        }
        bytes.resize(tar::shard_bytes(samples, image as u64) as usize, 0);
        bytes
    }

    #[test]
    fn samples_are_counted_across_shards_and_a_rest_is_no_batch() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = [3, 0, 4].map(|count| (count, dir.path().join(format!("{count}.tar"))));
        paths.iter().for_each(|(count, path)| fs::write(path, shard(*count, 20_000)).expect("write"));
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        let mut shards = Shards::new(paths.into_iter().map(|(_, path)| path).collect(), 2, &halt);
        let batches: Vec<Batch> = std::iter::from_fn(|| shards.next().expect("readable")).collect();
        assert_eq!(batches.iter().map(|batch| batch.samples).collect::<Vec<_>>(), [2, 2, 2]);
        assert!(batches.iter().all(|batch| batch.bytes >= 30_000));
    }

    #[test]
    fn a_shard_that_is_none_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.tar");
        fs::write(&path, [1; 1000]).expect("write");
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        assert!(matches!(Shards::new(vec![path], 1, &halt).next(), Err(MlError::Format { .. })));
    }

    #[test]
    fn workers_read_every_batch_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let files: Vec<_> = (0..10).map(|number| dir.path().join(format!("{number}"))).collect();
        files.iter().enumerate().for_each(|(number, path)| fs::write(path, vec![1; 1 << number]).expect("write"));
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        for layout in [Layout::Npz, Layout::Images] {
            let mut read = Vec::new();
            for worker in 0..3 {
                let mut source = Files { files: &files, layout, batch: 2, next: worker, stride: 3, halt: &halt };
                read.extend(std::iter::from_fn(|| source.next().expect("readable")).map(|batch| batch.bytes));
            }
            read.sort();
            assert_eq!(read, [3, 12, 48, 192, 768], "{layout:?}");
        }
    }
}
