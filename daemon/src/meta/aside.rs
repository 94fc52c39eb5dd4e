//! Giving a name up to what the bucket has under it: ours gets another one beside it.
//!
//! Unlike a rename this leaves nothing behind: no whiteout, and no object that is to go. What the bucket has under the name is not ours to hide or to delete.

use super::engine::Table;
use super::names::{enter, entry, live_directory, named_inode, touch_directory};
use super::{FileKind, MetaError, MetaStore, Origin, Refusal};
use crate::format::rows::{Link, encode_text, key};
use crate::ids::Ino;

impl MetaStore {
    /// Gives one name of a file or symlink up for another in the same directory. `was` is the version that it came from under the own name: all its bytes are
    /// here by now, and it comes from nowhere from then on. `false`: the name or the version is another by now, and nothing was changed.
    pub fn set_aside(&self, ino: Ino, link: &Link, to: &[u8], was: Option<&Origin>, now_ns: i64) -> Result<bool, MetaError> {
        self.before_removal(link.parent, &link.name)?;
        self.ensure_entry(link.parent, to)?;
        self.transact(|txn| {
            let parent = link.parent;
            let directory = live_directory(txn, parent)?;
            if entry(txn, parent, &link.name)?.is_none_or(|dirent| dirent.ino != ino) {
                return Ok(false);
            }
            if entry(txn, parent, to)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            let mut row = named_inode(txn, parent, ino)?;
            if row.kind == FileKind::Directory {
                return Err(Refusal::IsDirectory.into());
            }
            if row.link.as_ref() == Some(link) {
                if row.origin.as_ref() != was {
                    return Ok(false);
                }
                row.link = Some(Link { parent, name: to.to_vec() });
                (row.origin, row.local) = (None, true);
            } else {
                let old = key::further_name(ino, parent, &link.name);
                txn.depend(Table::Links, &old)?;
                txn.remove(Table::Links, &old)?;
                txn.write(Table::Links, &key::further_name(ino, parent, to), encode_text(b""));
            }
            txn.remove(Table::Dirents, &key::dirent(parent, &link.name))?;
            enter(txn, parent, to, ino, row.kind);
            row.ctime_ns = now_ns;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            touch_directory(txn, parent, directory, 0, now_ns);
            Ok(true)
        })
    }
}
