//! Where a run takes place: the store, the work directory, and which data is in place already.

use super::cleanup::{self, Live, Registered};
use super::data::Dataset;
use super::error::{At, Result};
use super::store::{Profile, Store};
use super::system;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// The surroundings of a run.
#[derive(Debug)]
pub struct Site {
    /// The store.
    pub store: Store,
    /// How long one measured step (or one fill) may take.
    pub deadline: Duration,
    work: PathBuf,
    /// What [`Site::once`] has done.
    done: Mutex<BTreeSet<String>>,
    /// Buckets that the store serves from memory.
    warm: Mutex<BTreeSet<String>>,
    // Last, so that the tree goes after the store that lives in it.
    _tree: Tree,
}

/// A directory tree that goes with its owner.
#[derive(Debug)]
struct Tree {
    path: PathBuf,
    _registered: Registered,
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("forebay-bench: cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Site {
    /// Makes a work directory below `parent` and starts the store in it.
    pub fn open(parent: &Path, store_binary: &Path, deadline: Duration) -> Result<Self> {
        fs::create_dir_all(parent).at(parent.display())?;
        let parent = fs::canonicalize(parent).at(parent.display())?;
        let work = tempfile::Builder::new().prefix("forebay-bench-").tempdir_in(&parent).at(parent.display())?.keep();
        let tree = Tree { path: work.clone(), _registered: cleanup::register(Live::Tree(work.clone())) };
        let root = work.join("store");
        fs::create_dir(&root).at(root.display())?;
        let store = Store::start(store_binary, &root, &work.join("store.log"))?;
        Ok(Site { store, deadline, work, done: Mutex::default(), warm: Mutex::default(), _tree: tree })
    }

    /// A directory of the run's own, made if need be.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        fs::create_dir_all(&path).at(path.display())?;
        Ok(path)
    }

    /// An emptied directory of the run's own.
    pub fn emptied(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).at(path.display())?;
        }
        self.directory(name)
    }

    /// Removes a directory of the run's own; what cannot be removed now goes with the whole tree.
    pub fn discard(&self, path: &Path) {
        if let Err(error) = fs::remove_dir_all(path) {
            eprintln!("forebay-bench: cannot remove {}: {error}", path.display());
        }
    }

    /// The log of a peer.
    pub fn log(&self, peer: &str) -> PathBuf {
        self.work.join(format!("{peer}.log"))
    }

    /// Does something the first time it is asked for under a name.
    pub fn once(&self, name: String, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.done.lock().expect("no holder panics").contains(&name) {
            return Ok(());
        }
        work()?;
        self.done.lock().expect("no holder panics").insert(name);
        Ok(())
    }

    /// Puts a data set into the store, unless it is there.
    pub fn provide(&self, set: &Dataset) -> Result<()> {
        self.once(format!("store/{}", set.bucket), || {
            self.store.set_profile(Profile::LOOPBACK)?;
            self.store.fill(set)
        })
    }

    /// Makes the store serve a bucket from memory (dropping the page cache empties its part, too), at a profile.
    pub fn ready_store(&self, bucket: &str, profile: Profile) -> Result<()> {
        let mut warm = self.warm.lock().expect("no holder panics");
        if system::take_dropped() {
            warm.clear();
        }
        if !warm.contains(bucket) {
            self.store.warm(bucket)?;
            warm.insert(bucket.to_owned());
        }
        self.store.set_profile(profile)
    }
}
