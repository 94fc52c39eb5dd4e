//! What is left behind when a bench ends early: nothing. Mounts, processes and directories are written down here as long
//! as they live, and the signal thread undoes them in that order.

use super::system;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something that outlives this process unless it is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// A FUSE mount; its daemon is whichever process names the mount point.
    Mount(PathBuf),
    /// A process group that was started here.
    Group(u32),
    /// A directory tree.
    Tree(PathBuf),
}

static LIVE: Mutex<Vec<Live>> = Mutex::new(Vec::new());

fn live() -> MutexGuard<'static, Vec<Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an entry in the list until dropped.
#[derive(Debug)]
pub struct Registered(Live);

/// Writes down something that has to be undone.
pub fn register(what: Live) -> Registered {
    live().push(what.clone());
    Registered(what)
}

/// Starts a process and writes it down in one step: once [`undo_all`] has begun, nothing starts any more.
pub fn start(command: &mut Command) -> std::io::Result<(Child, Registered)> {
    let mut live = live();
    let child = command.spawn()?;
    let group = Live::Group(child.id());
    live.push(group.clone());
    Ok((child, Registered(group)))
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = live();
        if let Some(at) = live.iter().position(|entry| *entry == self.0) {
            live.remove(at);
        }
    }
}

/// Undoes everything still alive: mounts, then processes, then directories. For the end of the process: the list stays
/// locked, so that other threads neither start nor end anything more.
fn undo_all() -> MutexGuard<'static, Vec<Live>> {
    let left = live();
    for entry in left.iter() {
        if let Live::Mount(mountpoint) = entry {
            end_mount(mountpoint);
        }
    }
    for entry in left.iter() {
        if let Live::Group(pid) = entry {
            signal_group(*pid, libc::SIGKILL);
        }
    }
    for entry in left.iter() {
        if let Live::Tree(path) = entry {
            let _ = std::fs::remove_dir_all(path);
        }
    }
    left
}

/// Detaches a mount and ends the processes that name it.
pub fn end_mount(mountpoint: &std::path::Path) {
    let daemons = system::processes_naming(mountpoint);
    system::force_unmount(mountpoint);
    let deadline = Instant::now() + Duration::from_secs(5);
    let alive = || daemons.iter().copied().filter(|pid| system::processes_naming(mountpoint).contains(pid)).collect::<Vec<_>>();
    signal(&alive(), libc::SIGTERM);
    while !alive().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&alive(), libc::SIGKILL);
}

fn signal(pids: &[u32], signal: i32) {
    for pid in pids {
        // SAFETY: kill(2) takes plain numbers; the processes were found by our own mount point just now.
        unsafe { libc::kill(*pid as libc::pid_t, signal) };
    }
}

/// Signals a process group that was started here.
pub fn signal_group(pid: u32, signal: i32) {
    // SAFETY: kill(2) takes plain numbers; the group's leader is a child of ours that has not been waited for.
    unsafe { libc::kill(-(pid as libc::pid_t), signal) };
}

/// From now on SIGINT, SIGTERM and SIGHUP undo everything and end this process with 130.
pub fn on_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            eprintln!("forebay-bench: interrupted, cleaning up");
            let _locked = undo_all();
            std::process::exit(130);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_no_longer_written_down() {
        let entry = Live::Tree(PathBuf::from("/nonexistent/forebay-bench-registry-test"));
        let registered = register(entry.clone());
        assert!(live().contains(&entry));
        drop(registered);
        assert!(!live().contains(&entry));
    }
}
