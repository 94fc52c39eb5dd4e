//! What the bucket does not know yet: the change log, and the objects that are to go.
//!
//! The log is derived from what transactions write, so that no operation can forget to say: whoever writes an inode that the bucket has, or should have,
//! changes it, unless the transaction says that it only takes over what the bucket says ([`Txn::says_what_the_bucket_says`]).
//!
//! Invariants:
//! 1. A file, directory or symlink that has a name, and whose row says that it is not what the bucket has (`local`, `base`, `attrs_changed`), has a row here.
//! 2. The generation in that row grows with each transaction that changes the inode. A row goes only in the transaction that makes the inode what the
//!    bucket has ([`MetaStore::exported`]), or when the inode loses its last name.
//! 3. An object whose name was taken away here has a row by its key, until it is deleted or something else is exported to that key.

use super::engine::{Engine, KeyRange, Order, Table};
use super::inode::{decode_inode, read_inode};
use super::rows::{self, Txn, damaged};
use super::{FileKind, Inode, MetaError, MetaStore, Origin};
use crate::format::located::locate;
use crate::format::rows::{ChangeRow, DoomedRow, Link, RowError, UploadRow, is_tombstone, key};
use crate::ids::{AssociationId, Ino};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Inodes looked at in one transaction.
const ROWS_PER_STEP: usize = 1000;

/// Told of inodes that changed, after the commit. Must be short.
pub type ChangeListener = Box<dyn Fn(&[Ino]) + Send + Sync>;

/// Makes something of a key and its row.
type DecodeRow<'a, T> = dyn Fn(&[u8], &[u8]) -> Result<T, RowError> + 'a;

/// An object to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its key, located.
    pub key: String,
    /// What is known of it.
    pub row: DoomedRow,
}

/// Whether an inode can be an object at all.
fn is_exportable(kind: FileKind) -> bool {
    matches!(kind, FileKind::File | FileKind::Directory | FileKind::Symlink)
}

/// Whether a row that a transaction writes is something the bucket should have otherwise. A directory that is only implied by keys below it has no
/// object, and gets none for its times' sake.
fn wants_export(row: &Inode) -> bool {
    let implied = row.kind == FileKind::Directory && !row.local && !row.posix_known && !row.attrs_changed;
    is_exportable(row.kind) && !implied
}

/// Whether a row says that the inode has to be in the log. (There may be more in it: a file that has another name, times of a directory.)
pub(super) fn must_be_logged(row: &Inode) -> bool {
    let is_changed = match row.kind {
        FileKind::File => row.own_origin().is_none() || row.base.is_some(),
        FileKind::Symlink => row.local && row.origin.is_none(),
        _ => row.local && row.origin.is_none(),
    };
    row.link.is_some() && is_exportable(row.kind) && (is_changed || row.attrs_changed)
}

/// Writes the log for what a transaction has written; returns the inodes that changed.
pub(super) fn derive(txn: &mut Txn<'_>, association_roots: &HashSet<Ino>) -> Result<Vec<Ino>, MetaError> {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for write in txn.writes_now().filter(|write| write.table == Table::Inodes) {
        let is_object = |ino: &Ino| *ino != Ino::ROOT && !association_roots.contains(ino);
        let Some(ino) = key::leading_ino(&write.key).filter(is_object) else { continue };
        match write.value.as_deref().filter(|value| !is_tombstone(value)) {
            None => gone.push(ino),
            Some(value) => {
                let row = decode_inode(value)?;
                if row.link.is_none() {
                    gone.push(ino);
                } else if txn.changes_objects() && wants_export(&row) {
                    changed.push((ino, row.ctime_ns));
                }
            }
        }
    }
    for ino in gone {
        if txn.read_plain(Table::Changes, &key::ino(ino))?.is_some() {
            txn.remove_plain(Table::Changes, &key::ino(ino));
        }
    }
    changed.sort_unstable();
    changed.dedup_by_key(|(ino, _)| *ino);
    for (ino, now_ns) in &changed {
        note(txn, *ino, *now_ns)?;
    }
    Ok(changed.into_iter().map(|(ino, _)| ino).collect())
}

pub(super) fn note(txn: &mut Txn<'_>, ino: Ino, now_ns: i64) -> Result<(), MetaError> {
    let at = key::ino(ino);
    let before = read_change(txn, ino)?;
    // Never one that it had before, also after it was exported in between: it names the version to the bucket.
    let generation = before.map_or(0, |change| change.generation + 1).max(now_ns.cast_unsigned());
    let since_ns = before.map_or(now_ns, |change| change.since_ns);
    txn.write_plain(Table::Changes, &at, ChangeRow { generation, since_ns }.encode());
    Ok(())
}

/// An inode's row in the log; the transaction depends on it.
pub(super) fn read_change(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<ChangeRow>, MetaError> {
    let row = txn.read_plain(Table::Changes, &key::ino(ino))?;
    row.map(|row| ChangeRow::decode(&row).map_err(damaged(Table::Changes))).transpose()
}

/// Enters all that was changed before there was a log. May be done again.
pub(super) fn log_older(engine: &dyn Engine) -> Result<(), MetaError> {
    let mut after = Ino(0);
    loop {
        let ((last, more), _) = rows::transact(engine, |txn| {
            let range = KeyRange { start: key::ino(Ino(after.0 + 1)).to_vec(), end: None };
            let (mut seen, mut last, mut changed) = (0, after, Vec::new());
            txn.reading().scan(Table::Inodes, &range, &mut |prefix, row| {
                let row = decode_inode(row)?;
                last = key::leading_ino(prefix).unwrap_or(last);
                if must_be_logged(&row) || (row.link.is_some() && is_exportable(row.kind) && row.local) {
                    changed.push((last, row.ctime_ns));
                }
                seen += 1;
                Ok(if seen < ROWS_PER_STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            changed.iter().try_for_each(|(ino, now_ns)| note(txn, *ino, *now_ns))?;
            Ok((last, seen == ROWS_PER_STEP))
        })?;
        after = last;
        if !more {
            return Ok(());
        }
    }
}

/// Notes that an object has lost its name here. Where an earlier bearer of the name is in need of it still, that stays what is known.
pub(super) fn doom(txn: &mut Txn<'_>, origin: &Origin, heir: Ino, now_ns: i64) -> Result<(), MetaError> {
    let at = key::doomed(&origin.key);
    if let Some(row) = txn.read_plain(Table::Doomed, &at)? {
        let before = DoomedRow::decode(&row).map_err(damaged(Table::Doomed))?;
        if before.heir != heir
            && read_inode(txn.reading(), before.heir)?.and_then(|row| row.origin).is_some_and(|from| from.key == origin.key)
        {
            return Ok(());
        }
    }
    let row = DoomedRow { heir, since_ns: now_ns, etag: origin.etag.clone(), version: origin.version.clone() };
    txn.write_plain(Table::Doomed, &at, row.encode());
    Ok(())
}

/// The rows of an association's doomed objects.
pub(super) fn doomed_of(id: AssociationId) -> KeyRange {
    KeyRange::prefix(&key::doomed(&locate(id, "")))
}

/// Whether an object that a listing shows is one that lost its name here.
pub(super) fn is_doomed(txn: &Txn<'_>, origin: &Origin) -> Result<bool, MetaError> {
    let row = txn.reading().view.get(Table::Doomed, &key::doomed(&origin.key))?;
    let doomed = row.map(|row| DoomedRow::decode(&row)).transpose().map_err(damaged(Table::Doomed))?;
    Ok(doomed.is_some_and(|doomed| doomed.etag == origin.etag))
}

/// Whether any object is doomed.
pub(super) fn is_anything_doomed(txn: &Txn<'_>) -> Result<bool, MetaError> {
    let mut any = false;
    txn.reading().view.scan(Table::Doomed, &KeyRange { start: Vec::new(), end: None }, Order::Ascending, &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

/// The path below the root of what has a name, as it is now. The transaction depends on it: on every directory above.
pub(super) fn path_of(txn: &mut Txn<'_>, link: &Link) -> Result<Option<Vec<u8>>, MetaError> {
    let (mut names, mut dir) = (vec![link.name.clone()], link.parent);
    while dir != Ino::ROOT {
        txn.depend(Table::Inodes, &key::ino(dir))?;
        let Some(above) = read_inode(txn.reading(), dir)?.and_then(|row| row.link) else { return Ok(None) };
        names.push(above.name);
        dir = above.parent;
    }
    names.reverse();
    Ok(Some(names.join(&b'/')))
}

impl MetaStore {
    /// Sets whom to tell of changes; once.
    pub fn set_change_listener(&self, listener: ChangeListener) {
        let _ = self.shared.change_listener.set(listener);
    }

    /// What the log says of an inode; `None` if it is what the bucket has.
    pub fn change_of(&self, ino: Ino) -> Result<Option<ChangeRow>, MetaError> {
        let row = self.reading().view.get(Table::Changes, &key::ino(ino))?;
        row.map(|row| ChangeRow::decode(&row).map_err(damaged(Table::Changes))).transpose()
    }

    /// Changed inodes after one, in order, at most so many.
    pub fn changes(&self, after: Option<Ino>, limit: usize) -> Result<Vec<(Ino, ChangeRow)>, MetaError> {
        let start = after.map_or(Vec::new(), |ino| key::ino(Ino(ino.0 + 1)).to_vec());
        self.collect(Table::Changes, start, limit, &|key, row| {
            Ok((key::leading_ino(key).ok_or(RowError::Field("key"))?, ChangeRow::decode(row)?))
        })
    }

    /// How many inodes changed, and the time (ns since the Unix epoch) of the oldest change. Looks at all of them.
    pub fn count_changes(&self) -> Result<(u64, Option<i64>), MetaError> {
        let (mut count, mut oldest) = (0, None::<i64>);
        self.reading().view.scan(
            Table::Changes,
            &KeyRange { start: Vec::new(), end: None },
            Order::Ascending,
            &mut |_, row| {
                count += 1;
                if let Ok(change) = ChangeRow::decode(row) {
                    oldest = Some(oldest.map_or(change.since_ns, |so_far| so_far.min(change.since_ns)));
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok((count, oldest))
    }

    /// Doomed objects after a located key, association by association and in order, at most so many.
    pub fn doomed(&self, after: Option<&str>, limit: usize) -> Result<Vec<Doomed>, MetaError> {
        let start = after.map_or(Vec::new(), |after| [key::doomed(after), vec![0]].concat());
        self.collect(Table::Doomed, start, limit, &|key, row| {
            Ok(Doomed { key: key::split_doomed(key).ok_or(RowError::Field("key"))?, row: DoomedRow::decode(row)? })
        })
    }

    /// What is known of a doomed object.
    pub fn doomed_at(&self, object_key: &str) -> Result<Option<DoomedRow>, MetaError> {
        let row = self.reading().view.get(Table::Doomed, &key::doomed(object_key))?;
        row.map(|row| DoomedRow::decode(&row).map_err(damaged(Table::Doomed))).transpose()
    }

    /// Notes that a doomed object is gone, unless it was doomed anew meanwhile.
    pub fn undoom(&self, doomed: &Doomed) -> Result<(), MetaError> {
        self.transact(|txn| {
            let at = key::doomed(&doomed.key);
            if txn.read_plain(Table::Doomed, &at)?.is_some_and(|row| row == doomed.row.encode()) {
                txn.remove_plain(Table::Doomed, &at);
            }
            Ok(())
        })
    }

    /// Records that an object of an inode is about to be written, before it is.
    pub fn begin_upload(&self, ino: Ino, object_key: &str, upload: &UploadRow) -> Result<(), MetaError> {
        self.transact(|txn| {
            txn.write_plain(Table::Uploads, &key::upload(ino, object_key), upload.encode());
            Ok(())
        })
    }

    /// Forgets a write that did not happen, or whose object was dealt with. [`MetaStore::exported`] forgets those that it records.
    pub fn end_upload(&self, ino: Ino, object_key: &str) -> Result<(), MetaError> {
        self.transact(|txn| {
            txn.remove_plain(Table::Uploads, &key::upload(ino, object_key));
            Ok(())
        })
    }

    /// What is noted of a write of an inode's object.
    pub fn upload_of(&self, ino: Ino, object_key: &str) -> Result<Option<UploadRow>, MetaError> {
        let row = self.reading().view.get(Table::Uploads, &key::upload(ino, object_key))?;
        row.map(|row| UploadRow::decode(&row).map_err(damaged(Table::Uploads))).transpose()
    }

    /// The writes that were begun and not recorded.
    pub fn uploads(&self) -> Result<Vec<(Ino, String, UploadRow)>, MetaError> {
        self.collect(Table::Uploads, Vec::new(), usize::MAX, &|key, row| {
            let (ino, object_key) = key::split_upload(key).ok_or(RowError::Field("key"))?;
            Ok((ino, object_key.to_owned(), UploadRow::decode(row)?))
        })
    }

    /// An object that was written for an inode under a key that is not its own any more.
    pub fn doom_stray(&self, origin: &Origin, heir: Ino, now_ns: i64) -> Result<(), MetaError> {
        self.transact(|txn| {
            doom(txn, origin, heir, now_ns)?;
            txn.remove_plain(Table::Uploads, &key::upload(heir, &origin.key));
            Ok(())
        })
    }

    /// Enters an inode in the log though its row does not change: its object belongs under another key.
    pub fn note_change(&self, ino: Ino, now_ns: i64) -> Result<(), MetaError> {
        self.transact(|txn| note(txn, ino, now_ns))?;
        self.tell_of(&[ino]);
        Ok(())
    }

    fn collect<T>(&self, table: Table, start: Vec<u8>, limit: usize, decode: &DecodeRow<'_, T>) -> Result<Vec<T>, MetaError> {
        let (mut found, mut failure) = (Vec::new(), None);
        if limit == 0 {
            return Ok(found);
        }
        self.reading().view.scan(table, &KeyRange { start, end: None }, Order::Ascending, &mut |key, row| {
            match decode(key, row) {
                Ok(one) => found.push(one),
                Err(why) => failure = Some(why),
            }
            if failure.is_some() || found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failure.map_or(Ok(found), |why| Err(damaged(table)(why)))
    }
}
