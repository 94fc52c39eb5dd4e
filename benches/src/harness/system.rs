//! The machine: mounts, page cache, CPU time of processes. Everything through /proc and /sys.

use super::error::{At, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when the page cache was dropped, so that the store's share of it is read back before a cold run.
static DROPPED: AtomicBool = AtomicBool::new(false);

/// Writes dirty pages back and drops the page, dentry and inode caches of the whole machine. Needs root.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").at("drop the page cache (needs root)")?;
    DROPPED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Makes free memory real. In a virtual machine whose hypervisor takes free pages away (free page reporting), the first to
/// touch a page pays for its return, up to half the speed of a run of several GiB; touched here, nobody measured pays.
pub fn touch_free_memory(bytes: u64) {
    const PAGE: usize = 4096;
    let available = available_memory().unwrap_or(0);
    let wanted = usize::try_from(bytes.min(available / 2)).unwrap_or(0);
    let mut memory = vec![0_u8; wanted];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_memory() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Whether the page cache was dropped since the last call.
pub fn take_dropped() -> bool {
    DROPPED.swap(false, Ordering::SeqCst)
}

/// The FUSE connection (the device's minor number) mounted at a path, or `None` when nothing FUSE is mounted there.
pub fn fuse_connection(mountpoint: &Path) -> Option<u64> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let wanted = mountpoint.to_str()?;
    table.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        let at = fields.nth(1)?;
        let kind = line.split(" - ").nth(1)?;
        (at == wanted && kind.starts_with("fuse")).then(|| device.split(':').nth(1)?.parse().ok())?
    })
}

/// Unmounts without ever blocking: detaches, then aborts the connection, which wakes whoever still waits in it.
pub fn force_unmount(mountpoint: &Path) {
    while let Some(connection) = fuse_connection(mountpoint) {
        let detached = rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH).is_ok();
        // The control file system is not mounted everywhere; the daemon is ended afterwards in any case.
        let _ = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
        if !detached {
            break;
        }
    }
}

/// Processes (other than this one) that have the path as an argument.
pub fn processes_naming(path: &Path) -> Vec<u32> {
    use std::os::unix::ffi::OsStrExt;
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let names = |pid: &u32| names(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), path.as_os_str().as_bytes());
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own).filter(names).collect()
}

/// Whether a path is one of the arguments of a command line. They end in NUL, or, where the process has put one string in
/// their place (JuiceFS does), in a space.
fn names(command_line: &[u8], path: &[u8]) -> bool {
    command_line.split(|byte| matches!(byte, 0 | b' ')).any(|argument| argument == path)
}

/// CPU seconds, user and system, that processes and their ended children have used so far.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks: u64 = pids.iter().filter_map(|pid| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// utime + stime + cutime + cstime of a `/proc/<pid>/stat` line.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command name may hold spaces and parentheses; the fields begin after its last one.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// One line about the machine: cores, memory, kernel, load.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / (1 << 20) as f64;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned();
    format!("{cores} cores, {total:.0} GiB, Linux {}, load {load} at start", read("/proc/sys/kernel/osrelease").trim())
}

/// Finds a program: a path as it is, a bare name on the PATH.
pub fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.exists().then(|| fs::canonicalize(program).ok()).flatten();
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_odd_command_names() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn a_command_line_names_whole_arguments_only() {
        for line in [&b"a\0mount\0/x/mnt\0"[..], b"a mount /x/mnt\0\0"] {
            assert!(names(line, b"/x/mnt"));
            assert!(!names(line, b"/x/mn") && !names(line, b"/mnt"));
        }
    }

    #[test]
    fn available_memory_is_read() {
        assert!(available_memory().expect("MemAvailable") > 1 << 20);
    }

    #[test]
    fn nothing_is_mounted_on_a_fresh_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(fuse_connection(dir.path()), None);
    }
}
