//! Moving names.

use super::engine::Table;
use super::inode::{read_for_change, read_inode};
use super::names::{entry, give_name, links_of, live_directory, named_inode, take_name, touch_directory, unlinked};
use super::quota::{Enforce, Spending};
use super::remove::must_be_empty;
use super::rows::Txn;
use super::{FileKind, Inode, MetaError, MetaStore, Origin, Refusal};
use crate::format::rows::key;
use crate::ids::Ino;

/// What a rename does where the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The old bearer loses it.
    Replace,
    /// It is refused (`RENAME_NOREPLACE`).
    NoReplace,
    /// Both change places (`RENAME_EXCHANGE`).
    Exchange,
}

/// What a rename did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What was moved.
    pub ino: Ino,
    /// What had the new name before.
    pub replaced: Option<Ino>,
    /// Whether that has no name any more.
    pub orphaned: bool,
}

/// A place in the tree.
type Place<'a> = (Ino, &'a [u8]);

/// A move under way: one inode between two places.
struct Moving {
    ino: Ino,
    row: Inode,
}

impl MetaStore {
    /// Moves a name. `prefix_of` says which prefix of the store a directory's entries come from: a directory keeps it wherever it goes.
    pub fn rename(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        mode: Mode,
        prefix_of: &dyn Fn(Ino) -> Option<String>,
        now_ns: i64,
    ) -> Result<Renamed, MetaError> {
        let quotas = &self.shared.quotas;
        // Where directories move, nobody may ask meanwhile which project they are in.
        let moves_projects = from.0 != to.0 && quotas.has_roots();
        self.before_removal(from.0, from.1)?;
        self.before_replacement(to.0, to.1)?;
        if moves_projects {
            // What is moved is counted anew, whole.
            self.finish_clones(&|| false)?;
        }
        let shared = (!moves_projects).then(|| quotas.gate.read());
        let alone = moves_projects.then(|| quotas.gate.write());
        let by = Spending { enforce: Enforce::Projects, now_ns, alone: alone.is_some(), ..Spending::default() };
        let renamed = self.transact_in_gate(&by, |txn| {
            let from_dir = live_directory(txn, from.0)?;
            let to_dir = if to.0 == from.0 { None } else { Some(live_directory(txn, to.0)?) };
            let old = entry(txn, from.0, from.1)?.ok_or(Refusal::NotFound)?;
            let target = entry(txn, to.0, to.1)?;
            match (mode, target) {
                (Mode::NoReplace, Some(_)) => return Err(Refusal::Exists.into()),
                (Mode::Exchange, None) => return Err(Refusal::NotFound.into()),
                // Two names of one file: POSIX asks for nothing to happen.
                (_, Some(target)) if target.ino == old.ino => {
                    return Ok(Renamed { ino: old.ino, replaced: None, orphaned: false });
                }
                _ => {}
            }
            let mut moving = Moving::begin(txn, from, old.ino, to.0)?;
            // Subdirectories that come and go, seen from where the name was and from where it is going.
            let moved = links_of(moving.row.kind);
            let gone = target.map_or(0, |target| links_of(target.kind));
            let mut orphaned = false;
            let back = match target {
                None => None,
                Some(target) if mode == Mode::Exchange => Some(Moving::begin(txn, to, target.ino, from.0)?),
                Some(target) => {
                    orphaned = replace(txn, to, target.ino, moving.row.kind, now_ns)?;
                    None
                }
            };
            let came_back = if back.is_some() { gone } else { 0 };
            moving.leave(txn, from, prefix_of, now_ns)?;
            if let Some(mut back) = back {
                back.leave(txn, to, prefix_of, now_ns)?;
                back.arrive(txn, from, now_ns);
            }
            let ino = moving.ino;
            if moves_projects && self.project_of(from.0)? != self.project_of(to.0)? {
                let goes = Some((ino, moved)).filter(|(_, links)| *links > 0);
                let comes = target.filter(|_| came_back > 0).map(|target| (target.ino, came_back));
                for (dir, _) in goes.into_iter().chain(comes) {
                    quotas.recount_below(txn, dir)?;
                }
            }
            moving.arrive(txn, to, now_ns);
            match to_dir {
                Some(to_dir) => {
                    touch_directory(txn, from.0, from_dir, came_back - moved, now_ns);
                    touch_directory(txn, to.0, to_dir, moved - gone, now_ns);
                }
                None => touch_directory(txn, from.0, from_dir, came_back - gone, now_ns),
            }
            Ok(Renamed { ino, replaced: target.map(|target| target.ino), orphaned })
        });
        if alone.is_some() {
            quotas.forget_projects();
        }
        drop((shared, alone));
        renamed.map(|(renamed, _)| renamed)
    }
}

impl Moving {
    /// Checks that the inode can go into a directory.
    fn begin(txn: &mut Txn<'_>, from: Place<'_>, ino: Ino, into: Ino) -> Result<Self, MetaError> {
        let row = named_inode(txn, from.0, ino)?;
        if row.kind == FileKind::Directory && is_at_or_below(txn, into, ino)? {
            return Err(Refusal::Invalid("a directory cannot be moved below itself").into());
        }
        Ok(Moving { ino, row })
    }

    fn leave(
        &mut self,
        txn: &mut Txn<'_>,
        from: Place<'_>,
        prefix_of: &dyn Fn(Ino) -> Option<String>,
        now_ns: i64,
    ) -> Result<(), MetaError> {
        if self.row.kind == FileKind::Directory && (!self.row.local || self.row.origin.is_some()) {
            let prefix = prefix_of(self.ino).ok_or(Refusal::NotFound)?;
            self.row.origin = Some(Origin::prefix(prefix));
        }
        take_name(txn, from, self.ino, &mut self.row, now_ns)
    }

    fn arrive(mut self, txn: &mut Txn<'_>, to: Place<'_>, now_ns: i64) {
        give_name(txn, to.0, to.1, self.ino, &mut self.row);
        self.row.ctime_ns = now_ns;
        txn.write(Table::Inodes, &key::ino(self.ino), self.row.encode());
    }
}

/// Takes the new name from whoever has it; whether that was its last.
fn replace(txn: &mut Txn<'_>, at: Place<'_>, ino: Ino, by: FileKind, now_ns: i64) -> Result<bool, MetaError> {
    let mut row = read_for_change(txn, ino)?.ok_or_else(|| super::dir::dangling(at.0, ino))?;
    match (by, row.kind) {
        (FileKind::Directory, FileKind::Directory) => must_be_empty(txn, ino)?,
        (FileKind::Directory, _) => return Err(Refusal::NotDirectory.into()),
        (_, FileKind::Directory) => return Err(Refusal::IsDirectory.into()),
        _ => {}
    }
    take_name(txn, at, ino, &mut row, now_ns)?;
    Ok(unlinked(txn, ino, row, now_ns).nlink == 0)
}

fn is_at_or_below(txn: &Txn<'_>, mut dir: Ino, ancestor: Ino) -> Result<bool, MetaError> {
    while dir != ancestor {
        match read_inode(txn.reading(), dir)?.and_then(|row| row.link) {
            Some(link) => dir = link.parent,
            None => return Ok(false),
        }
    }
    Ok(true)
}
