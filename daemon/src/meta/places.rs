//! Which files have a block, by name: in the tree as it is, and in each snapshot.

use super::engine::{KeyRange, Order, Table};
use super::inode::read_inode;
use super::map::decode_chunk;
use super::references::local_blocks;
use super::rows::Reading;
use super::{BLOCKS_PER_CHUNK, MapChunk, MetaError, MetaStore};
use crate::format::rows::key;
use crate::ids::Ino;
use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

/// Directories above one another, at most: a loop would be damage.
const DEPTH_MAX: usize = 4096;

/// A block of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockPlace {
    /// The file, below the root; what a snapshot has of it is below `.snapshots`.
    pub path: Vec<u8>,
    /// The number of the block in the file.
    pub index: u64,
    /// The block's fingerprint.
    pub fingerprint: u64,
}

impl MetaStore {
    /// Where blocks that were written here are in files; of a file with several names one. Looks at all maps once.
    pub fn places_of(&self, fingerprints: &HashSet<u64>) -> Result<Vec<BlockPlace>, MetaError> {
        let rows = self.rows_with(fingerprints)?;
        let mut places = Vec::new();
        let now = |path: Option<Vec<u8>>, ino: Ino| Some(path.unwrap_or_else(|| format!("(a removed file, {ino})").into_bytes()));
        places_in(&self.reading(), Ino::ROOT, &rows, fingerprints, &now, &mut places)?;
        for (name, snapshot) in self.snapshots()? {
            let below = |path: Option<Vec<u8>>, _: Ino| Some([&b".snapshots/"[..], &name, b"/", &path?].concat());
            let reading = Reading { view: self.engine().view(), epoch: snapshot.epoch };
            places_in(&reading, snapshot.root, &rows, fingerprints, &below, &mut places)?;
        }
        places.sort_unstable();
        Ok(places)
    }

    /// The rows of maps, of any epoch, that name one of some blocks.
    fn rows_with(&self, fingerprints: &HashSet<u64>) -> Result<BTreeSet<(Ino, u64)>, MetaError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let mut rows = BTreeSet::new();
        self.reading().view.scan(Table::FileMap, &everything, Order::Ascending, &mut |key, row| {
            // A row that does not decode says nothing of any block.
            let has_one = local_blocks(row).is_ok_and(|mut blocks| blocks.any(|fingerprint| fingerprints.contains(&fingerprint)));
            let at = key::leading_ino(key).zip(key.get(8..).and_then(key::leading_ino));
            rows.extend(at.filter(|_| has_one).map(|(ino, number)| (ino, number.0)));
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }
}

/// What a path below a root is called; `None` leaves it out.
type Name<'a> = dyn Fn(Option<Vec<u8>>, Ino) -> Option<Vec<u8>> + 'a;

fn places_in(
    reading: &Reading<'_>,
    root: Ino,
    rows: &BTreeSet<(Ino, u64)>,
    fingerprints: &HashSet<u64>,
    name: &Name<'_>,
    places: &mut Vec<BlockPlace>,
) -> Result<(), MetaError> {
    for &(ino, number) in rows {
        let row = reading.newest(Table::FileMap, &key::chunk(ino, number))?;
        let chunk = row.as_deref().map_or_else(|| Ok(MapChunk::default()), decode_chunk)?;
        let wanted = |slot: usize| chunk.blocks[slot].map(|id| id.fingerprint()).filter(|id| fingerprints.contains(id));
        let found: Vec<(usize, u64)> =
            (0..chunk.blocks.len()).filter(|slot| chunk.is_local(*slot)).filter_map(|slot| Some((slot, wanted(slot)?))).collect();
        if found.is_empty() {
            continue;
        }
        let Some(path) = name(path_below(reading, root, ino)?, ino) else { continue };
        places.extend(found.into_iter().map(|(slot, fingerprint)| BlockPlace {
            path: path.clone(),
            index: number * BLOCKS_PER_CHUNK + slot as u64,
            fingerprint,
        }));
    }
    Ok(())
}

/// The path of an inode below a directory; `None` if it is not below it.
fn path_below(reading: &Reading<'_>, root: Ino, ino: Ino) -> Result<Option<Vec<u8>>, MetaError> {
    let (mut parts, mut at) = (Vec::new(), ino);
    while at != root {
        let link = read_inode(reading, at)?.and_then(|row| row.link).filter(|_| parts.len() < DEPTH_MAX);
        let Some(link) = link else { return Ok(None) };
        parts.push(link.name);
        at = link.parent;
    }
    parts.reverse();
    Ok(Some(parts.join(&b'/')))
}
