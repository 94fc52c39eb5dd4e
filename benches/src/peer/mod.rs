//! What is compared. Everything a workload needs to know of a peer is how to reach the data through it.

use crate::harness::cleanup::{self, Live, Registered};
use crate::harness::data::Dataset;
use crate::harness::error::{At, Error, Result};
use crate::harness::process::{self, Daemon};
use crate::harness::site::Site;
use crate::harness::system;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub mod bindfs;
pub mod forebay;
pub mod juicefs;
pub mod mountpoint;
pub mod plain;
pub mod plain_client;
pub mod plain_saver;
pub mod plain_sender;
pub mod rclone;
pub mod s3fs;
pub mod variant;

/// How long a mount may take to serve.
const MOUNT_DEADLINE: Duration = Duration::from_secs(60);
/// How long a mount may stay busy.
const BUSY_DEADLINE: Duration = Duration::from_secs(5);
/// How long an unmounted daemon may take to end.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// The kinds of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The plain disk.
    Disk,
    /// A client of the store that is no file system.
    Client,
    /// The plain disk through FUSE.
    Passthrough,
    /// A file system over the store.
    Mount,
}

/// Something to compare.
pub trait Peer {
    /// Its name in reports and on the command line.
    fn name(&self) -> &'static str;

    /// Its kind.
    fn kind(&self) -> Kind {
        Kind::Mount
    }

    /// Whether it keeps what it read, on disk, for the next read.
    fn caches(&self) -> bool {
        true
    }

    /// Whether it takes part only where the command line names it.
    fn only_if_named(&self) -> bool {
        false
    }

    /// Its version; an error says why it cannot take part.
    fn version(&self) -> Result<String>;

    /// How it is set up, as far as it differs from its defaults.
    fn settings(&self) -> String;

    /// The bucket that it reads a data set from.
    fn bucket(&self, set: &Dataset) -> String {
        set.bucket.clone()
    }

    /// Brings a data set into the form this peer reads, where that is not the plain objects. Once per set.
    fn prepare(&self, _site: &Site, _set: &Dataset) -> Result<()> {
        Ok(())
    }

    /// Makes a data set readable. What the peer keeps, it keeps in `place.state`.
    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted>;
}

/// Where a peer is mounted and where it keeps its cache.
#[derive(Clone, Debug)]
pub struct Place {
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The cache directory; empty for a cold start.
    pub state: PathBuf,
    /// The bucket.
    pub bucket: String,
    /// Further arguments of `forebay mount` that the workload wants.
    pub forebay_arguments: &'static [&'static str],
}

impl Place {
    /// The place of a peer for one bucket, with an empty cache.
    pub fn fresh(site: &Site, peer: &str, bucket: &str) -> Result<Self> {
        let state = site.emptied(&format!("state/{peer}/{bucket}"))?;
        let mountpoint = site.directory(&format!("mnt/{peer}/{bucket}"))?;
        Ok(Place { mountpoint, state, bucket: bucket.to_owned(), forebay_arguments: &[] })
    }
}

/// How a workload gets at the data.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Files below a directory.
    Tree(PathBuf),
    /// Requests to the store.
    Client(plain_client::Session),
}

/// A peer that serves; unmounted on drop.
#[derive(Debug)]
pub struct Mounted {
    /// How to get at the data.
    pub reach: Reach,
    /// Seconds from the start of the command until the root answered.
    pub mount_seconds: f64,
    /// The program whose commands export, import and preload, where there is one.
    pub program: Option<PathBuf>,
    mount: Option<Mount>,
}

#[derive(Debug)]
struct Mount {
    mountpoint: PathBuf,
    _daemon: Daemon,
    _registered: Registered,
}

impl Mounted {
    /// A peer that needs no mount.
    pub fn without_mount(reach: Reach) -> Self {
        Mounted { reach, mount_seconds: 0.0, program: None, mount: None }
    }

    /// Starts a mount command (which may stay, or return when the mount is ready) and waits until the mount answers.
    pub fn by_command(site: &Site, name: &str, place: &Place, mut command: Command) -> Result<Self> {
        // Nothing of the person's own AWS settings: they would reach some peers and not others.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(variable);
        }
        let registered = cleanup::register(Live::Mount(place.mountpoint.clone()));
        let start = Instant::now();
        let daemon = Daemon::spawn(command, &site.log(name))?;
        // From here on dropping `mount` undoes it.
        let mut mount = Mount { mountpoint: place.mountpoint.clone(), _daemon: daemon, _registered: registered };
        await_mount(name, &mut mount, start + MOUNT_DEADLINE)?;
        let root = place.mountpoint.clone();
        process::with_deadline("the first stat of the root", MOUNT_DEADLINE, move || fs::metadata(&root).at(root.display()))?;
        let mount_seconds = start.elapsed().as_secs_f64();
        Ok(Mounted { reach: Reach::Tree(place.mountpoint.clone()), mount_seconds, program: None, mount: Some(mount) })
    }

    /// The mount point, which the peer's processes have among their arguments.
    pub fn mountpoint(&self) -> Option<&Path> {
        self.mount.as_ref().map(|mount| mount.mountpoint.as_path())
    }
}

fn await_mount(name: &str, mount: &mut Mount, end: Instant) -> Result<()> {
    while system::fuse_connection(&mount.mountpoint).is_none() {
        let failed = mount._daemon.ended().is_some_and(|status| !status.success());
        if failed || Instant::now() > end {
            return Err(Error::program(name, format!("did not mount: {}", mount._daemon.last_words())));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Unmounts, waiting a moment where the mount is still busy: the last close may be on its way, and some daemons look
/// into their own mount.
fn unmount(mountpoint: &Path) -> std::io::Result<()> {
    let end = Instant::now() + BUSY_DEADLINE;
    loop {
        match rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            result => return result.map_err(std::io::Error::from),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.mountpoint.clone();
        if system::fuse_connection(&at).is_some() {
            let path = at.clone();
            let clean = process::with_deadline("unmount", END_DEADLINE, move || unmount(&path).at(path.display()));
            if let Err(error) = clean {
                eprintln!("forebay-bench: {error}; unmounting by force");
            }
        }
        let end = Instant::now() + END_DEADLINE;
        while system::fuse_connection(&at).is_none() && !system::processes_naming(&at).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        cleanup::end_mount(&at);
    }
}

/// The version line that a program prints.
fn version_of(program: &Path, argument: &str) -> Result<String> {
    let found = system::find_program(program).ok_or_else(|| Error::program(program.display(), "not found"))?;
    let mut command = Command::new(found);
    command.arg(argument);
    let printed = process::run(command, MOUNT_DEADLINE)?;
    Ok(printed.lines().next().unwrap_or("no version").trim().to_owned())
}
