//! `forebay umount`: asks the daemon, waits until it has flushed and gone; a mount whose daemon is dead is detached here.

use crate::cli::UmountArgs;
use crate::error::CliError;
use crate::holders;
use crate::places;
use crate::task_progress;
use forebay_daemon::control::task::{TaskOrder, encode_path};
use forebay_daemon::control::types::ApiErrorKind;
use forebay_daemon::control::{Client, ClientError};
use forebay_fuse::mountinfo;
use forebay_fuse::{UnmountError, Unmounter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::path::Path;

/// How long a daemon may take to flush and end after its mount is gone.
const SHUTDOWN_SECONDS: i64 = 60;

pub(super) fn run(args: &UmountArgs) -> Result<(), CliError> {
    let mountpoint = places::mountpoint(&args.mountpoint)?;
    match Client::of_mountpoint(&places::socket_dir(), &mountpoint) {
        Ok(client) => match see_to_changes(&client, args).and_then(|()| through_daemon(&client, &mountpoint)) {
            // It was killed, and its socket outlived it for a moment.
            Err(_) if client.status().is_err() && is_dead(&mountpoint) => without_daemon(&mountpoint),
            done => done,
        },
        Err(_) => without_daemon(&mountpoint),
    }
}

/// What the bucket does not have is exported if asked for; in a scratch deployment, which may start empty next time, it has to be given up expressly.
fn see_to_changes(client: &Client, args: &UmountArgs) -> Result<(), CliError> {
    if args.export {
        let options = [("prune".to_owned(), "true".to_owned())].into();
        let order = TaskOrder { kind: "export".to_owned(), paths: vec![encode_path(b"")], options, report: None };
        let task = client.start_task(&order).map_err(CliError::failed)?;
        return task_progress::wait(client, task.id, false);
    }
    let status = client.status().map_err(CliError::failed)?;
    let changes = match status.unexported.changes {
        0 => return Ok(()),
        1 => "1 change is".to_owned(),
        changes => format!("{changes} changes are"),
    };
    let shown = args.mountpoint.display();
    if status.deployment == "scratch" && !args.discard {
        return Err(CliError::words(format!(
            "'{shown}': {changes} only here and not in the bucket; use 'forebay umount --export {shown}', or --discard to give them up"
        )));
    }
    if !args.discard {
        eprintln!("note: {changes} not in the bucket yet; they are kept in the cache and can be exported after the next mount");
    }
    Ok(())
}

fn through_daemon(client: &Client, mountpoint: &Path) -> Result<(), CliError> {
    // Looked up before it can end, so that a later process with the same number is not taken for it.
    let status = client.status().map_err(CliError::failed)?;
    let daemon = i32::try_from(status.pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    match client.unmount() {
        Ok(()) => {}
        Err(ClientError::Api(error)) if error.kind == ApiErrorKind::Busy => return Err(busy(mountpoint)),
        // It may be gone before its answer was out.
        Err(error) if mountinfo::at(&places::mounts()?, mountpoint).is_some() => return Err(CliError::failed(error)),
        Err(_) => {}
    }
    match daemon {
        Some(daemon) if !ended(&daemon) => Err(CliError::words(format!(
            "'{}' is unmounted, but its daemon (pid {}) is still shutting down; its log says what it waits for",
            mountpoint.display(),
            status.pid
        ))),
        _ => Ok(()),
    }
}

/// Waits for a process to end.
fn ended(process: &OwnedFd) -> bool {
    let timeout = Timespec { tv_sec: SHUTDOWN_SECONDS, tv_nsec: 0 };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// A mount nobody answers for: its daemon was killed, or belongs to another user (then the kernel decides).
fn without_daemon(mountpoint: &Path) -> Result<(), CliError> {
    let shown = mountpoint.display();
    let mounts = places::mounts()?;
    match mountinfo::at(&mounts, mountpoint) {
        Some(mount) if mount.is_forebay() => {}
        Some(mount) => {
            let kind = &mount.fs_type;
            return Err(CliError::words(format!("'{shown}' is a mount of type {kind}, not forebay's; use 'umount {shown}'")));
        }
        None => return Err(CliError::words(format!("'{shown}' is not mounted; 'forebay status' lists the mounts"))),
    }
    let unmounter = Unmounter::new(mountpoint);
    let result = if is_dead(mountpoint) { unmounter.detach() } else { unmounter.unmount() };
    match result {
        Err(UnmountError::Busy { .. }) => Err(busy(mountpoint)),
        result => result.map_err(CliError::failed),
    }
}

fn is_dead(mountpoint: &Path) -> bool {
    std::fs::metadata(mountpoint).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
}

fn busy(mountpoint: &Path) -> CliError {
    let who = holders::describe(mountpoint);
    CliError::words(format!("'{}' is busy{who}; close what is open below it and try again", mountpoint.display()))
}
