//! TensorFlow's `tf.data` as DLIO uses it: `TFRecordDataset(num_parallel_reads)`, batches of its records, and a buffer of batches.
//!
//! So many files are open at once; one record is taken from each in turn, whichever would be ready first, because the order is to be the same every
//! time. Each reader is a few records ahead. Checksums are verified, as TensorFlow does.

use super::batches::{Batch, Read};
use crate::ml::error::{At, FormatFault, In, MlError};
use crate::ml::format::tfrecord::{self, HEAD, TAIL};
use crate::ml::halt::Halt;
use crate::ml::stream::Stream;
use crate::ml::workload::Params;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// What a `TFRecordDataset` reads at a time, unless told otherwise.
const CALL: usize = 256 << 10;
/// Records that a reader is ahead: what `parallel_interleave` buffers for each of its inputs.
const AHEAD: usize = 3;

type Record = Result<u64, MlError>;

/// Starts readers, and a thread that makes batches of what they give.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    params: &'scope Params,
    files: &'scope [PathBuf],
    halt: &'scope Halt<'_>,
) -> Receiver<Read> {
    let next = Arc::new(AtomicUsize::new(0));
    let readers = params.read_threads.min(files.len());
    let lanes: Vec<Receiver<Record>> = (0..readers).map(|_| start_reader(scope, files, next.clone(), halt)).collect();
    let (batches_end, batches) = sync_channel(params.prefetch_batches);
    scope.spawn(move || assemble(lanes, params.batch_size, &batches_end));
    batches
}

fn start_reader<'scope>(
    scope: &'scope Scope<'scope, '_>,
    files: &'scope [PathBuf],
    next: Arc<AtomicUsize>,
    halt: &'scope Halt<'_>,
) -> Receiver<Record> {
    let (records_end, records) = sync_channel(AHEAD);
    scope.spawn(move || {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            match read_file(path, &records_end, halt) {
                Ok(true) => (),
                Ok(false) => return,
                Err(error) => {
                    // If nobody wants it, the epoch is over.
                    let _ = records_end.send(Err(error));
                    return;
                }
            }
        }
    });
    records
}

/// Reads all records of a file. False if nobody wants more.
fn read_file(path: &Path, records: &SyncSender<Record>, halt: &Halt<'_>) -> Result<bool, MlError> {
    let mut stream = Stream::open(path, CALL).at("open", path)?;
    while let Some(bytes) = read_record(&mut stream, path)? {
        halt.check()?;
        if records.send(Ok(bytes)).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_record(stream: &mut Stream, path: &Path) -> Result<Option<u64>, MlError> {
    let (mut head, mut tail) = ([0; HEAD], [0; TAIL]);
    if !stream.take(&mut head).at("read", path)? {
        return Ok(None);
    }
    let len = tfrecord::data_len(&head).in_file(path)?;
    let mut crc = 0;
    stream.pass(len, |bytes| crc = crc32c::crc32c_append(crc, bytes)).at("read", path)?;
    if !stream.take(&mut tail).at("read", path)? {
        return Err(FormatFault::Short("a record")).in_file(path);
    }
    if tail != tfrecord::tail(crc) {
        return Err(FormatFault::Checksum("a record")).in_file(path);
    }
    Ok(Some(tfrecord::framed(len)))
}

/// Takes a record from each lane in turn until all have ended. A rest that is no batch is dropped.
fn assemble(mut lanes: Vec<Receiver<Record>>, size: u64, batches: &SyncSender<Read>) {
    let (mut turn, mut batch) = (0, Batch::default());
    while !lanes.is_empty() {
        turn %= lanes.len();
        match lanes[turn].recv() {
            Err(_) => {
                lanes.remove(turn);
                continue;
            }
            Ok(Err(error)) => {
                let _ = batches.send(Err(error));
                return;
            }
            Ok(Ok(bytes)) => batch = batch.with(bytes),
        }
        turn += 1;
        if batch.samples == size && batches.send(Ok(std::mem::take(&mut batch))).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::workload::{Gpu, Workload};
    use std::fs;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn records(lens: &[usize]) -> Vec<u8> {
        let record = |len: &usize| {
            let data = vec![*len as u8; *len];
            [&tfrecord::head(*len as u64)[..], &data, &tfrecord::tail(crc32c::crc32c(&data))].concat()
        };
        lens.iter().flat_map(record).collect()
    }

    fn all_batches(files: &[Vec<u8>], batch_size: u64, read_threads: usize) -> Vec<Read> {
        let dir = tempfile::tempdir().expect("a directory");
        let paths: Vec<_> = (0..files.len()).map(|number| dir.path().join(number.to_string())).collect();
        paths.iter().zip(files).for_each(|(path, content)| fs::write(path, content).expect("write"));
        let params = Params { batch_size, read_threads, ..Workload::Resnet50.params(Gpu::H100).expect("it trains") };
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        thread::scope(|scope| start(scope, &params, &paths, &halt).iter().collect())
    }

    #[test]
    fn records_are_taken_from_files_in_turn() {
        let files = [records(&[1, 10]), records(&[100, 1000])];
        let read: Vec<u64> = all_batches(&files, 1, 1).into_iter().map(|batch| batch.expect("readable").bytes - 16).collect();
        assert_eq!(read, [1, 10, 100, 1000], "one reader reads one file after the other");
        let total = |batches: Vec<Read>| batches.into_iter().map(|batch| batch.expect("readable").bytes).sum::<u64>();
        assert_eq!(total(all_batches(&files, 1, 8)), 1111 + 4 * 16);
    }

    #[test]
    fn a_rest_is_no_batch() {
        let read = all_batches(&[records(&[5; 7]), records(&[5; 4])], 4, 2);
        assert_eq!(read.len(), 2);
        assert!(read.into_iter().all(|batch| batch.expect("readable") == Batch { samples: 4, bytes: 84 }));
    }

    #[test]
    fn a_damaged_record_is_told() {
        let mut damaged = records(&[50, 50]);
        damaged[100] ^= 1;
        let read = all_batches(&[damaged], 1, 1);
        assert!(matches!(read[..], [Ok(_), Err(MlError::Format { .. })]), "{read:?}");
        let mut cut = records(&[50]);
        cut.truncate(62);
        assert!(all_batches(&[cut], 1, 1)[0].is_err());
    }
}
