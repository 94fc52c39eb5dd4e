//! Making way: where both sides changed and both are to be kept, the bucket's version keeps the key and the name, and ours goes on under another name beside it.
//!
//! 1. All bytes of ours are here before its name changes: the version they came from may be gone.
//! 2. The new name is one transaction, and durable before anything is written under its key. So whoever is killed in between finds either the conflict as
//!    it was, or a file that was made here under a name of its own; never two copies.
//! 3. The new name is in the change log like any other: it is exported as what was made here is.

use super::{ErrorCode, ExportFailure, ExportResult, Exported, Inner};
use crate::error::ErrorKind;
use crate::format::located::bare;
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, Link, MetaError, Refusal, RenameMode};
use crate::repository::WriteToken;
use crate::repository::limits::MOST_KEY;
use crate::vfs::metadata_error;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// `NAME_MAX` of Linux.
const MOST_NAME: usize = 255;
/// What follows the last dot of a name and is longer is no extension.
const MOST_EXTENSION: usize = 16;
/// Names tried, should they exist.
const NAMES: usize = 8;

/// What is to have another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// The inode: what is exported, or a directory above it.
    pub(super) ino: Ino,
    /// The name that the bucket has something else under.
    pub(super) link: Link,
}

/// How one try to export something ended.
pub(super) enum Ended {
    With(Exported),
    /// Something is to make way first.
    MakesWay(Aside),
}

impl From<Exported> for Ended {
    fn from(exported: Exported) -> Self {
        Ended::With(exported)
    }
}

/// A name for what makes way: `data.csv` becomes `data.conflict-20261128T103203Z-1a2b3c.csv`, with its extension, and cut in the middle where it would
/// have more than `most` bytes. `None` if no name is short enough.
fn name_aside(name: &str, at: &str, token: &str, most: usize) -> Option<String> {
    let mark = format!(".conflict-{at}-{token}");
    let extension = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot - 1 <= MOST_EXTENSION && dot + 1 < name.len() => &name[dot..],
        _ => "",
    };
    let extension = if mark.len() + extension.len() < most { extension } else { "" };
    let stem = &name[..name.len() - extension.len()];
    let room = most.checked_sub(mark.len() + extension.len()).filter(|room| *room > 0)?;
    let cut = (0..=stem.len().min(room)).rev().find(|at| stem.is_char_boundary(*at)).unwrap_or(0);
    Some(format!("{}{mark}{extension}", &stem[..cut]))
}

/// `20261128T103203Z`.
fn compact_time(wall_ns: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_nanos(wall_ns.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(at).to_string().replace(['-', ':'], "")
}

impl Inner {
    /// Gives what is in a conflict another name, and shows what the bucket has under the old one. Nothing happens where that was done already, or the name is
    /// somebody else's by now.
    pub(super) async fn set_aside(self: &Arc<Self>, aside: &Aside) -> ExportResult<()> {
        let Aside { ino, link } = aside;
        let Some(row) = self.meta.inode(*ino).map_err(metadata_error)? else { return Ok(()) };
        let key = self.place_of(link)?.key;
        let comes_from_there = row.link.as_ref() == Some(link) && row.origin.as_ref().is_some_and(|origin| origin.key == key);
        if comes_from_there && row.kind == FileKind::File {
            self.bring_all(*ino, &row, &key).await?;
        }
        let Some(name) = self.rename_aside(aside, &row, comes_from_there, &key)? else { return Ok(()) };
        tracing::warn!(key, name, "changed here and in the bucket: ours has another name from now on");
        self.names_changed(link.parent);
        self.invalidator.entry(link.parent, &link.name);
        self.invalidator.entry(link.parent, name.as_bytes());
        self.invalidator.inode(link.parent);
        self.directories.forget_probe(link.parent, &link.name);
        self.forget_doomed(&key)?;
        self.durable().await?;
        let directory = self.directory(link.parent)?;
        if let Err(error) = self.probe(&directory, &link.name).await {
            tracing::warn!(key, %error, "what the bucket has there shows with the next listing");
        }
        Ok(())
    }

    /// Has all bytes of a file here, whose object is another by now.
    async fn bring_all(self: &Arc<Self>, ino: Ino, row: &Inode, key: &str) -> ExportResult<()> {
        let file = self.file_of(ino, row)?;
        self.cache.bring_here(&file).await.map_err(|error| match error.kind {
            ErrorKind::Stale => ExportFailure::new(
                ErrorCode::S3FileDeleted,
                format!(
                    "'{key}' was replaced in the bucket before all of what it was came here, so that ours cannot be kept whole"
                ),
            ),
            _ => error.into(),
        })
    }

    fn rename_aside(&self, aside: &Aside, row: &Inode, comes_from_there: bool, key: &str) -> ExportResult<Option<String>> {
        let (ino, link) = (aside.ino, &aside.link);
        let text = std::str::from_utf8(&link.name).unwrap_or_default();
        let now_ns = self.clock.wall_ns();
        let most = MOST_NAME.min(MOST_KEY.saturating_sub(bare(key).len() - text.len()));
        for _ in 0..NAMES {
            let token = format!("{:06x}", WriteToken::random().bits() as u32 & 0xff_ffff);
            let Some(name) = name_aside(text, &compact_time(now_ns), &token, most) else {
                let message = format!("'{key}' is in a conflict, and the key of a second version would be too long");
                return Err(ExportFailure::new(ErrorCode::PathSizeTooLong, message));
            };
            // Something that comes from another key takes that with it, as with any rename, and so does a directory.
            let is_further = row.link.as_ref() != Some(link);
            let is_plain = row.kind != FileKind::Directory && (comes_from_there || is_further || row.origin.is_none());
            let done = if is_plain {
                let was = row.origin.as_ref().filter(|_| comes_from_there);
                self.meta.set_aside(ino, link, name.as_bytes(), was, now_ns)
            } else {
                self.move_aside(ino, link, name.as_bytes())
            };
            match done {
                Ok(true) => return Ok(Some(name)),
                Ok(false) => return Ok(None),
                Err(MetaError::Refused(Refusal::Exists)) => {}
                Err(error) => return Err(metadata_error(error).into()),
            }
        }
        Err(ExportFailure::passing(ErrorCode::ResourceBusy, format!("no name is free for a second version of '{key}'")))
    }

    /// A rename as anybody's, unless the name is not that inode's any more.
    fn move_aside(&self, ino: Ino, link: &Link, to: &[u8]) -> Result<bool, MetaError> {
        let from = (link.parent, link.name.as_slice());
        self.rename_if(from, (link.parent, to), RenameMode::NoReplace, &|meta| {
            Ok(meta.lookup(link.parent, &link.name)?.is_some_and(|dirent| dirent.ino == ino))
        })
    }

    /// The version that was to be deleted under a key is not there any more.
    fn forget_doomed(&self, key: &str) -> ExportResult<()> {
        if self.in_need_of(key)?.is_some() {
            return Ok(());
        }
        if let Some(row) = self.meta.doomed_at(key).map_err(metadata_error)? {
            let doomed = crate::meta::Doomed { key: key.to_owned(), row };
            self.meta.undoom(&doomed).map_err(metadata_error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_extension_and_fit() {
        let aside = |name: &str, most| name_aside(name, "20261128T103203Z", "1a2b3c", most);
        let mark = ".conflict-20261128T103203Z-1a2b3c";
        for (name, expected) in [
            ("data.csv", format!("data{mark}.csv")),
            ("README", format!("README{mark}")),
            (".bashrc", format!(".bashrc{mark}")),
            ("a.tar.gz", format!("a.tar{mark}.gz")),
            ("ends.", format!("ends.{mark}")),
            ("version 1.and then some words", format!("version 1.and then some words{mark}")),
        ] {
            assert_eq!(aside(name, MOST_NAME), Some(expected));
        }
        let long = format!("{}.json", "ü".repeat(125));
        let cut = aside(&long, MOST_NAME).expect("fits");
        assert!(cut.len() <= MOST_NAME && cut.len() >= MOST_NAME - 1, "{}", cut.len());
        assert!(cut.starts_with("üü") && cut.ends_with(&format!("{mark}.json")));
        assert_eq!(aside("data.csv", mark.len() + 1), Some(format!("d{mark}")), "no room for the extension");
        assert_eq!(aside("data.csv", mark.len()), None);
    }

    #[test]
    fn times_are_compact_and_sort() {
        assert_eq!(compact_time(1_795_861_923_000_000_000), "20261128T103203Z");
        assert_eq!(compact_time(-5), "19700101T000000Z");
    }
}
