//! Readers: ordinary threads with ordinary `read` calls, that check how much they got.

use crate::harness::data::{Dataset, Object};
use crate::harness::error::{At, Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of each `read` call.
pub const BUFFER: usize = 1 << 20;

/// Reads a file to its end and checks its length.
fn read_file(root: &Path, object: &Object, buffer: &mut [u8]) -> Result<()> {
    let path = root.join(&object.key);
    let mut file = File::open(&path).at(path.display())?;
    let mut total = 0;
    loop {
        match file.read(buffer).at(path.display())? {
            0 => break,
            got => total += got as u64,
        }
    }
    if total != object.bytes {
        return Err(Error::WrongData { file: path.display().to_string(), offset: total.min(object.bytes) });
    }
    Ok(())
}

/// Reads every object with so many readers, which take the next one of `order` as they become free.
fn read_all(root: &Path, objects: &[Object], order: &[usize], readers: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let reader = || {
        let mut buffer = vec![0; BUFFER];
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            read_file(root, &objects[*at], &mut buffer)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader panics on nothing but a bug"))
    })
}

/// Reads a data set in key order.
pub fn read_in_order(root: &Path, set: &Dataset, readers: usize) -> Result<()> {
    let order: Vec<usize> = (0..set.objects.len()).collect();
    read_all(root, &set.objects, &order, readers)
}

/// Reads a data set in an order that is shuffled the same way every time.
pub fn read_shuffled(root: &Path, set: &Dataset, readers: usize) -> Result<()> {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..set.objects.len()).collect();
    order.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(42));
    read_all(root, &set.objects, &order, readers)
}

/// The number of files below a directory, each of them looked at. Like `ls`, it passes over names with a leading dot: some
/// peers keep control files under them.
pub fn walk(directory: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(directory).at(directory.display())? {
        let entry = entry.at(directory.display())?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.metadata().at(path.display())?.is_dir() {
            files += walk(&path)?;
        } else {
            files += 1;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_no_successful_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let set = Dataset::small(3, 5000);
        set.write_below(dir.path()).expect("write");
        read_in_order(dir.path(), &set, 2).expect("all there");
        read_shuffled(dir.path(), &set, 2).expect("all there");
        let path = dir.path().join(&set.objects[1].key);
        std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(4999)).expect("truncate");
        assert!(matches!(read_in_order(dir.path(), &set, 2), Err(Error::WrongData { offset: 4999, .. })));
    }
}
