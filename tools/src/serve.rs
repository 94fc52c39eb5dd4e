//! The daemon: starts the file system, mounts it, answers the control socket, and ends cleanly however the mount ends.
//!
//! The end, in order: the mount is out of the tree (by `forebay umount`, a signal, or somebody's `umount`), the control socket
//! goes, the file system flushes and stops. A first SIGTERM or SIGINT asks for that and waits while the mount is busy; a second
//! one detaches the mount from its users.

use crate::daemonize::Ready;
use crate::error::CliError;
use crate::holders;
use crate::places;
use crate::settings::MountPlan;
use crate::target::Mounted;
use forebay_daemon::control::ControlServer;
use forebay_daemon::engine::FileSystem;
use forebay_fuse::{MountHandle, UnmountError, Unmounter};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between tries to unmount a busy mount after a signal.
const RETRY_UNMOUNT: Duration = Duration::from_millis(500);
/// How long a detached mount may take to end by itself before the daemon leaves its users with `ENOTCONN`.
const DETACHED_GRACE: Duration = Duration::from_secs(2);

/// Why the daemon ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The mount's session is over.
    SessionOver,
    /// The mount was detached while in use.
    Detached,
}

/// Runs a mount from start to end.
pub(crate) fn run(plan: MountPlan, ready: Ready) -> Result<(), CliError> {
    let url = plan.settings.source();
    let serving = match Serving::start(plan) {
        Ok(serving) => serving,
        Err(error) => {
            // Exit code 1 either way: the parent turns the word into its own.
            return ready.fail(error);
        }
    };
    tracing::info!(pid = std::process::id(), "{url} mounted at {}", serving.mount.mountpoint().display());
    if let Err(error) = ready.tell() {
        tracing::warn!("nobody waits for this mount any more ({error}); unmounting");
        let _ = serving.mount.unmounter().detach();
    }
    serving.until_the_end()
}

/// Has the allocator return what it holds free.
fn give_back() {
    // SAFETY: mimalloc is the process's allocator; collecting is allowed from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// A mount that serves.
pub(crate) struct Serving {
    filesystem: Arc<FileSystem>,
    mount: MountHandle,
    control: ControlServer,
}

impl Serving {
    /// Starts the file system and mounts it.
    pub(crate) fn start(plan: MountPlan) -> Result<Self, CliError> {
        // Before anything that takes time or touches the cache.
        let mountpoint = places::free_mountpoint(&plan.mountpoint)?;
        // The daemon pins no directory. Every path of the plan is absolute.
        std::env::set_current_dir("/").map_err(CliError::failed)?;
        let filesystem = Arc::new(FileSystem::start(plan.settings, give_back).map_err(CliError::failed)?);
        Self::mount(&filesystem, &mountpoint, &plan.options).inspect_err(|_| filesystem.shutdown())
    }

    fn mount(
        filesystem: &Arc<FileSystem>,
        mountpoint: &std::path::Path,
        options: &forebay_fuse::MountOptions,
    ) -> Result<Self, CliError> {
        let target = Mounted { filesystem: Arc::clone(filesystem), unmounter: Unmounter::new(mountpoint) };
        // First the socket: it also keeps a second daemon off the mount point.
        let control = ControlServer::start(filesystem.runtime(), &places::socket_dir(), mountpoint, Arc::new(target))
            .map_err(CliError::failed)?;
        let mount = forebay_fuse::mount(filesystem.vfs(), filesystem.runtime(), mountpoint, options).map_err(CliError::failed)?;
        Ok(Serving { filesystem: Arc::clone(filesystem), mount, control })
    }

    /// The file system behind the mount.
    pub(crate) fn filesystem(&self) -> &Arc<FileSystem> {
        &self.filesystem
    }

    /// Serves until the mount is gone: unmounted by somebody, or by a signal.
    pub(crate) fn until_the_end(self) -> Result<(), CliError> {
        let Serving { filesystem, mount, control } = self;
        let (ends, end) = channel();
        let signals = watch_signals(&filesystem, mount.unmounter(), ends.clone());
        let session = wait_for_session(mount, ends);
        let result = signals.and(session.map_err(CliError::failed)).map(|()| last_word(&end));
        control.stop(filesystem.runtime());
        filesystem.shutdown();
        match result {
            Ok(End::SessionOver) => tracing::info!("unmounted"),
            Ok(End::Detached) => tracing::warn!("detached while in use; open files fail from now on"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Waits for the end; a detached mount gets a moment to end by itself.
fn last_word(end: &Receiver<End>) -> End {
    match end.recv() {
        Ok(End::Detached) => end.recv_timeout(DETACHED_GRACE).unwrap_or(End::Detached),
        Ok(End::SessionOver) | Err(_) => End::SessionOver,
    }
}

fn wait_for_session(mount: MountHandle, ends: Sender<End>) -> std::io::Result<()> {
    std::thread::Builder::new().name("forebay-session".into()).spawn(move || {
        if let Err(error) = mount.wait() {
            tracing::error!("the FUSE session ended with an error: {error}");
        }
        let _ = ends.send(End::SessionOver);
    })?;
    Ok(())
}

fn watch_signals(filesystem: &FileSystem, unmounter: Unmounter, ends: Sender<End>) -> Result<(), CliError> {
    let _entered = filesystem.runtime().enter();
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let mut signals = Signals(terminate.map_err(CliError::failed)?, interrupt.map_err(CliError::failed)?);
    filesystem.runtime().spawn(async move {
        signals.next().await;
        tokio::select! {
            true = unmount_when_idle(&unmounter) => return,
            () = signals.next() => {}
        }
        match unmounter.detach() {
            Ok(()) => drop(ends.send(End::Detached)),
            Err(error) => tracing::error!("{error}"),
        }
    });
    Ok(())
}

struct Signals(Signal, Signal);

impl Signals {
    /// The next SIGTERM or SIGINT.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// Unmounts as soon as nobody uses the mount; false if that is refused for another reason.
async fn unmount_when_idle(unmounter: &Unmounter) -> bool {
    let mut told = false;
    loop {
        let attempt = {
            let unmounter = unmounter.clone();
            tokio::task::spawn_blocking(move || (unmounter.unmount(), unmounter)).await
        };
        match attempt {
            Ok((Err(error @ UnmountError::Busy { .. }), unmounter)) if !told => {
                let who = holders::describe(unmounter.mountpoint());
                tracing::warn!("{error}{who}; waiting for it, send the signal again to detach it");
                told = true;
            }
            Ok((Err(UnmountError::Busy { .. }), _)) => {}
            Ok((Err(UnmountError::NotMounted { .. }) | Ok(()), _)) => return true,
            Ok((Err(error), _)) => {
                tracing::error!("{error}; send the signal again to detach it");
                return false;
            }
            Err(_) => return false,
        }
        tokio::time::sleep(RETRY_UNMOUNT).await;
    }
}
