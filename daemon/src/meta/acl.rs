//! POSIX access control lists: extended attributes that the kernel checks access by.
//!
//! Invariants:
//! 1. The mode of a file with an access list is the list's: owner and others have the bits of their entries, the group those of the mask.
//! 2. A list that says no more than a mode can say is not kept.
//! 3. Only directories have default lists.

use super::engine::Table;
use super::inode::read_for_change;
use super::rows::{Txn, damaged};
use super::{FileKind, MetaError, MetaStore, NewNode, Refusal};
use crate::format::acl::{Acl, Who};
use crate::format::rows::{RowError, decode_text, encode_text, key};
use crate::ids::Ino;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const SET_GID: u16 = 0o2000;
const RWX: u16 = 0o777;

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// Access to what has it.
    Access,
    /// What is made in the directory that has it begins with it.
    Default,
}

impl AclKind {
    /// The kind of list that an attribute of this name is.
    pub fn of(name: &[u8]) -> Option<Self> {
        match name {
            ACCESS => Some(AclKind::Access),
            DEFAULT => Some(AclKind::Default),
            _ => None,
        }
    }

    fn key(self, ino: Ino) -> Vec<u8> {
        key::xattr(ino, if self == AclKind::Access { ACCESS } else { DEFAULT })
    }
}

impl MetaStore {
    /// Sets a list, or takes it away. An access list sets the mode, too; whoever sets it and is not `in_group` of the file loses
    /// set-group-ID.
    pub fn set_acl(
        &self,
        ino: Ino,
        kind: AclKind,
        acl: Option<&Acl>,
        in_group: &dyn Fn(u32) -> bool,
        now_ns: i64,
    ) -> Result<(), MetaError> {
        self.transact(|txn| {
            let mut row = read_for_change(txn, ino)?.ok_or(Refusal::NotFound)?;
            if row.kind == FileKind::Symlink || (kind == AclKind::Default && row.kind != FileKind::Directory) {
                return Err(Refusal::Invalid("no such list of access rights for what this is").into());
            }
            let mut kept = acl;
            if let (AclKind::Access, Some(acl)) = (kind, acl) {
                row.perm = row.perm & !RWX | mode_of(acl);
                row.perm &= if in_group(row.gid) { !0 } else { !SET_GID };
                row.attrs_changed = true;
                kept = kept.filter(|acl| says_more_than_a_mode(acl));
            }
            row.ctime_ns = now_ns;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            match kept {
                Some(acl) => txn.write(Table::Xattrs, &kind.key(ino), encode_text(&acl.encode())),
                None if txn.read(Table::Xattrs, &kind.key(ino))?.is_some() => txn.remove(Table::Xattrs, &kind.key(ino))?,
                None => {}
            }
            Ok(())
        })
    }
}

fn read(txn: &mut Txn<'_>, ino: Ino, kind: AclKind) -> Result<Option<Acl>, MetaError> {
    let Some(row) = txn.read(Table::Xattrs, &kind.key(ino))? else { return Ok(None) };
    let bytes = decode_text(&row).map_err(damaged(Table::Xattrs))?;
    Acl::decode(bytes).map_err(|_| damaged(Table::Xattrs)(RowError::Field("access control list")))
}

/// The mode was set: the access list says the same from now on.
pub(super) fn follow_mode(txn: &mut Txn<'_>, ino: Ino, perm: u16) -> Result<(), MetaError> {
    let Some(mut acl) = read(txn, ino, AclKind::Access)? else { return Ok(()) };
    let group = group_class(&acl);
    acl.change(|who, allowed| match who {
        Who::Owner => *allowed = perm >> 6,
        Who::Others => *allowed = perm,
        who if who == group => *allowed = perm >> 3,
        _ => {}
    });
    txn.write(Table::Xattrs, &AclKind::Access.key(ino), encode_text(&acl.encode()));
    Ok(())
}

/// What something new begins with.
pub(super) struct Inherited {
    /// Its permission bits.
    pub perm: u16,
    access: Option<Acl>,
    default: Option<Acl>,
}

/// What something new in a directory begins with: the directory's default list, as far as the mode asked for goes; without one, that
/// mode without the bits of the umask.
pub(super) fn inherit(txn: &mut Txn<'_>, dir: Ino, node: &NewNode<'_>) -> Result<Inherited, MetaError> {
    if node.kind == FileKind::Symlink {
        return Ok(Inherited { perm: node.perm, access: None, default: None });
    }
    let Some(default) = read(txn, dir, AclKind::Default)? else {
        return Ok(Inherited { perm: node.perm & !(node.umask & RWX), access: None, default: None });
    };
    let mut access = default.clone();
    let group = group_class(&access);
    access.change(|who, allowed| match who {
        Who::Owner => *allowed &= node.perm >> 6,
        Who::Others => *allowed &= node.perm,
        who if who == group => *allowed &= node.perm >> 3,
        _ => {}
    });
    let perm = node.perm & !RWX | mode_of(&access);
    let default = (node.kind == FileKind::Directory).then_some(default);
    Ok(Inherited { perm, access: Some(access).filter(says_more_than_a_mode), default })
}

impl Inherited {
    /// Writes the lists of the new inode.
    pub fn write(&self, txn: &mut Txn<'_>, ino: Ino) {
        for (kind, acl) in [(AclKind::Access, &self.access), (AclKind::Default, &self.default)] {
            if let Some(acl) = acl {
                txn.write(Table::Xattrs, &kind.key(ino), encode_text(&acl.encode()));
            }
        }
    }
}

/// The entry that a mode's group bits stand for.
fn group_class(acl: &Acl) -> Who {
    let has_mask = acl.entries().iter().any(|entry| entry.who == Who::Mask);
    if has_mask { Who::Mask } else { Who::OwningGroup }
}

fn mode_of(acl: &Acl) -> u16 {
    let group = group_class(acl);
    let bits = acl.entries().iter().map(|entry| match entry.who {
        Who::Owner => entry.perm << 6,
        Who::Others => entry.perm,
        who if who == group => entry.perm << 3,
        _ => 0,
    });
    bits.sum()
}

fn says_more_than_a_mode(acl: &Acl) -> bool {
    acl.entries().iter().any(|entry| matches!(entry.who, Who::User(_) | Who::Group(_) | Who::Mask))
}
