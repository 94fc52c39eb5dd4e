//! Whether two inodes, or one in two trees, are the same for whoever looks at them.

use super::Differs;
use super::content::{Same, Version, same_bytes};
use super::side::Side;
use crate::format::rows::{InodeRow, decode_text, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Table};
use crate::meta::rows::damaged;
use crate::meta::{FileKind, MetaError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Which rows of an inode were written.
#[derive(Default)]
pub(super) struct Touched {
    pub xattrs: bool,
    /// Rows of its map, by number.
    pub chunks: BTreeSet<u64>,
}

/// An inode in one of the trees, and its row there.
type Seen<'a> = (&'a Side<'a>, Ino, &'a InodeRow);

/// How an inode differs between two trees that both have it; `None` also where one does not.
pub(super) fn compare(from: &Side<'_>, to: &Side<'_>, ino: Ino, touched: &Touched) -> Result<Option<Differs>, MetaError> {
    let (Some(was), Some(is)) = (from.inode(ino)?, to.inode(ino)?) else { return Ok(None) };
    // Every write, cut and setting of times changes the one or the other.
    let is_untouched = (was.mtime_ns, was.ctime_ns) == (is.mtime_ns, is.ctime_ns);
    let same = same_content((from, ino, &was), (to, ino, &is), Some(touched))?;
    if same == Same::No || (same == Same::Unknown && !is_untouched) {
        return Ok(Some(Differs::Content));
    }
    let same_xattrs = !touched.xattrs || xattrs(from, ino)? == xattrs(to, ino)?;
    Ok((!same_xattrs || attributes(&was) != attributes(&is)).then_some(Differs::Attributes))
}

/// How one inode differs from another that is in its place.
pub(super) fn compare_others(was: (&Side<'_>, Ino), is: (&Side<'_>, Ino)) -> Result<Option<Differs>, MetaError> {
    let (Some(was_row), Some(is_row)) = (was.0.inode(was.1)?, is.0.inode(is.1)?) else { return Ok(Some(Differs::Content)) };
    if same_content((was.0, was.1, &was_row), (is.0, is.1, &is_row), None)? != Same::Yes {
        return Ok(Some(Differs::Content));
    }
    let same_xattrs = xattrs(was.0, was.1)? == xattrs(is.0, is.1)?;
    Ok((!same_xattrs || attributes(&was_row) != attributes(&is_row)).then_some(Differs::Attributes))
}

/// What counts as an attribute. Times of directories follow from what is done to their entries.
fn attributes(row: &InodeRow) -> (u16, u32, u32, Option<i64>) {
    (row.perm, row.uid, row.gid, (row.kind != FileKind::Directory).then_some(row.mtime_ns))
}

/// `touched` is of one inode in two trees: whatever is not in it is the same in both.
fn same_content(was: Seen<'_>, is: Seen<'_>, touched: Option<&Touched>) -> Result<Same, MetaError> {
    if was.2.kind != is.2.kind {
        return Ok(Same::No);
    }
    match is.2.kind {
        FileKind::Directory => Ok(Same::Yes),
        FileKind::File => {
            let (one, other) = (Version::new(&was.0.reading, was.1, was.2), Version::new(&is.0.reading, is.1, is.2));
            same_bytes(&one, &other, touched.map(|touched| &touched.chunks))
        }
        FileKind::Symlink => same_target(was, is),
        _ => Ok(if was.2.rdev == is.2.rdev { Same::Yes } else { Same::No }),
    }
}

fn same_target(was: Seen<'_>, is: Seen<'_>) -> Result<Same, MetaError> {
    let target = |seen: Seen<'_>| seen.0.reading.newest(Table::Symlinks, &key::ino(seen.1));
    Ok(match (target(was)?, target(is)?) {
        (Some(was), Some(is)) if was == is => Same::Yes,
        (Some(_), Some(_)) => Same::No,
        _ => Same::Unknown,
    })
}

fn xattrs(side: &Side<'_>, ino: Ino) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MetaError> {
    let mut found = BTreeMap::new();
    side.reading.scan(Table::Xattrs, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let value = decode_text(row).map_err(damaged(Table::Xattrs))?;
        found.insert(prefix[8..].to_vec(), value.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
