//! A file being written: under a name that no listing shows, in the directory where it belongs, until it is whole and durable.
//!
//! 1. Under its key there is the old file or the new one, whole and with its attributes, at every moment and after a crash.
//! 2. Changes of names within this process are one at a time ([`Tree::names_lock`]), so a precondition holds when the name changes. Another
//!    process that changes the file between the two is not noticed, save that an absent name is decided by the file system.

use super::attributes::Attributes;
use super::tree::{HIDDEN, Tree, is_plain};
use super::{failed, file_pin};
use crate::repository::{ObjectHeaders, Pin, Precondition, StoreError};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// A file without its name yet. Dropped before [`Draft::publish`], it is gone.
pub struct Draft<'t> {
    tree: &'t Tree,
    key: String,
    dir: OwnedFd,
    hidden: String,
    file: File,
}

/// A fresh name that no listing shows.
pub fn hidden_name() -> String {
    format!("{HIDDEN}{}", uuid::Uuid::new_v4().simple())
}

/// What the file system says, or what we do.
#[derive(Debug)]
pub enum Refused {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        Refused::Io(error.into())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Store(error)
    }
}

impl Refused {
    /// As the store's error about a key.
    pub fn into_error(self, what: &str) -> StoreError {
        match self {
            Refused::Io(error) => failed(what, &error),
            Refused::Store(error) => error,
        }
    }
}

/// A key that a directory can hold: its directory's path and its name.
pub fn place(key: &str) -> Result<(&str, &str), StoreError> {
    if key.split('/').all(is_plain) {
        return Ok(key.rsplit_once('/').unwrap_or(("", key)));
    }
    let message = "no path in a directory can be that key".to_owned();
    Err(StoreError::Permanent { what: key.to_owned(), message })
}

impl<'t> Draft<'t> {
    /// Begins the file of a key, with the directories above it.
    pub fn begin(tree: &'t Tree, key: &str) -> Result<Self, Refused> {
        let (dir_path, _) = place(key)?;
        let hidden = hidden_name();
        // Once something is in it the directory cannot be pruned.
        let _names = tree.names_lock();
        let dir = tree.make_dir(dir_path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&dir, &hidden, flags, Mode::from_raw_mode(0o666))?.into();
        Ok(Draft { tree, key: key.to_owned(), dir, hidden, file })
    }

    /// Where the bytes go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its attributes and its name, for good.
    pub fn publish(self, headers: &ObjectHeaders, precondition: &Precondition) -> Result<Pin, Refused> {
        let pin = file_pin(&self.file)?;
        if *headers != ObjectHeaders::default() {
            Attributes::new(&pin.etag, None, headers).write(&self.file)?;
        }
        self.file.sync_all()?;
        let (_, name) = place(&self.key)?;
        {
            let _names = self.tree.names_lock();
            let there = self.tree.etag_of(&self.key)?;
            precondition.check(&self.key, there.as_deref())?;
            match precondition {
                Precondition::Absent => match linkat(&self.dir, &self.hidden, &self.dir, name, AtFlags::empty()) {
                    Err(rustix::io::Errno::EXIST) => return Err(StoreError::Changed { key: self.key.clone() }.into()),
                    linked => linked?,
                },
                _ => renameat(&self.dir, &self.hidden, &self.dir, name)?,
            }
        }
        rustix::fs::fsync(&self.dir)?;
        Ok(pin)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // It has its name by now, or nobody wants it.
        let _ = unlinkat(&self.dir, &self.hidden, AtFlags::empty());
    }
}
