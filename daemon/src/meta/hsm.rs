//! What people ask for a file's data: that it stays here (`norelease`, a pin), that it does not go to the bucket (`noarchive`); and letting go of what of a file
//! is merely cached here.
//!
//! Invariants:
//! 1. The table `pins` has a row for exactly the files whose inode says `norelease`, so that a restart finds them without looking at every inode.
//! 2. Nothing that exists only here is let go of: a file whose content was changed here, or that has no object, is refused whole.

use super::engine::{KeyRange, Order, Table};
use super::inode::read_for_change;
use super::map::decode_chunk;
use super::rows::{Txn, damaged};
use super::{FileKind, Inode, MetaError, MetaStore, Refusal};
use crate::format::rows::{RowError, encode_text, key};
use crate::ids::Ino;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// File-map rows let go of in one transaction.
const STEP_ROWS: usize = 256;

/// What people set and clear of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The data stays here.
    pub norelease: Option<bool>,
    /// The data does not go to the bucket.
    pub noarchive: Option<bool>,
}

/// What became of letting go of a file's cached data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// The fingerprints of blocks that the file's map named; it names none any more.
    All(Vec<u64>),
    /// Of some; there are more.
    More(Vec<u64>),
    /// The bucket does not have it as it is here.
    OnlyHere,
    /// Somebody wants it to stay.
    Pinned,
    /// No such file.
    Gone,
}

/// Enters a file in the table of pins, or takes it out, as its row says.
pub(super) fn note_pin(txn: &mut Txn<'_>, ino: Ino, row: &Inode) {
    if row.norelease {
        txn.write_plain(Table::Pins, &key::ino(ino), encode_text(b""));
    } else {
        txn.remove_plain(Table::Pins, &key::ino(ino));
    }
}

impl MetaStore {
    /// Sets and clears what people ask for a file; its row afterwards, `None` if there is no such inode. The bucket need not know.
    pub fn set_wishes(&self, ino: Ino, wishes: Wishes) -> Result<Option<Inode>, MetaError> {
        let row = self.transact(|txn| {
            txn.says_what_the_bucket_says();
            let Some(mut row) = read_for_change(txn, ino)? else { return Ok(None) };
            if row.kind != FileKind::File {
                return Err(Refusal::Invalid("only regular files have data that could stay or go").into());
            }
            let before = (row.norelease, row.noarchive);
            row.norelease = wishes.norelease.unwrap_or(row.norelease);
            row.noarchive = wishes.noarchive.unwrap_or(row.noarchive);
            if before != (row.norelease, row.noarchive) {
                note_pin(txn, ino, &row);
                txn.write(Table::Inodes, &key::ino(ino), row.encode());
            }
            Ok(Some(row))
        })?;
        if wishes.noarchive == Some(false) && self.change_of(ino)?.is_some() {
            // What was passed over so far is to go out.
            self.tell_of(&[ino]);
        }
        Ok(row)
    }

    /// The files that are pinned, in order.
    pub fn pins(&self) -> Result<Vec<Ino>, MetaError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let (mut found, mut is_damaged) = (Vec::new(), false);
        self.reading().view.scan(Table::Pins, &everything, Order::Ascending, &mut |key, _| {
            let ino = key::leading_ino(key);
            is_damaged |= ino.is_none();
            found.extend(ino);
            ControlFlow::Continue(())
        })?;
        if is_damaged { Err(damaged(Table::Pins)(RowError::Field("key"))) } else { Ok(found) }
    }

    /// Visits the fingerprints of all blocks that a file's map names, those written here included.
    pub fn mapped_blocks(&self, ino: Ino, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        self.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |_, row| {
            decode_chunk(row)?.blocks.iter().flatten().for_each(|id| visit(id.fingerprint()));
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Has a file's map name nothing that the bucket has, some rows at a time.
    pub fn let_go_of_cached(&self, ino: Ino) -> Result<LetGo, MetaError> {
        self.transact(|txn| {
            let Some(row) = read_for_change(txn, ino)?.filter(|row| row.kind == FileKind::File) else { return Ok(LetGo::Gone) };
            if row.base.is_some() || row.own_origin().is_none() {
                return Ok(LetGo::OnlyHere);
            }
            if row.norelease {
                return Ok(LetGo::Pinned);
            }
            let (mut rows, mut blocks) = (Vec::new(), Vec::new());
            txn.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
                let chunk = decode_chunk(row)?;
                if chunk.local != 0 {
                    return Err(damaged(Table::FileMap)(RowError::Field("local")));
                }
                blocks.extend(chunk.blocks.iter().flatten().map(|id| id.fingerprint()));
                rows.push(prefix.to_vec());
                Ok(if rows.len() < STEP_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for prefix in &rows {
                txn.depend(Table::FileMap, prefix)?;
                txn.remove(Table::FileMap, prefix)?;
            }
            Ok(if rows.len() < STEP_ROWS { LetGo::All(blocks) } else { LetGo::More(blocks) })
        })
    }

    /// Takes out of a set of fingerprints those that any file's map names. Looks at all maps.
    pub fn without_mapped(&self, fingerprints: &mut HashSet<u64>) -> Result<(), MetaError> {
        self.reading().scan(Table::FileMap, &KeyRange { start: Vec::new(), end: None }, &mut |_, row| {
            for id in decode_chunk(row)?.blocks.iter().flatten() {
                fingerprints.remove(&id.fingerprint());
            }
            Ok(if fingerprints.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }
}
