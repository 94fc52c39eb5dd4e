//! The machine: its memory, its file systems, and the page cache. Everything through /proc and statvfs.

use serde::Serialize;
use std::fs;
use std::path::Path;

/// Where root may drop what the kernel keeps.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// The machine a report was made on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// Load over the last minute when the bench began.
    pub load: f64,
}

impl Machine {
    /// This one, now.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: total_memory().unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// Bytes of memory.
pub(crate) fn total_memory() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

/// Bytes that can be had without swapping.
pub(crate) fn available_memory() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

fn meminfo(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// What a file system says of its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that are free; none if it claims to have no size at all, as some in user space do, which says nothing.
    pub(crate) free: Option<u64>,
    pub(crate) is_read_only: bool,
}

impl Room {
    /// That of the file system a path is in.
    pub(crate) fn of(path: &Path) -> rustix::io::Result<Self> {
        let room = rustix::fs::statvfs(path)?;
        let free = (room.f_blocks > 0).then(|| room.f_bavail.saturating_mul(room.f_frsize));
        Ok(Room { free, is_read_only: room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) })
    }

    /// What files of so many bytes take with a margin of one part in `margin` of them, and what is free, if that is too little.
    pub(crate) fn lacks(self, bytes: u64, margin: u64) -> Option<(u64, u64)> {
        let needed = bytes.saturating_add(bytes / margin);
        self.free.filter(|free| *free < needed).map(|free| (needed, free))
    }
}

/// What is mounted where a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Such as `ext4` or `fuse.forebay`.
    pub(crate) kind: String,
    /// The device, the bucket, the server.
    pub(crate) source: String,
}

/// Finds the mount that a path (absolute, without links) is in.
pub(crate) fn mount_of(path: &Path) -> Option<Mounted> {
    mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, path)
}

fn mount_in(table: &str, path: &Path) -> Option<Mounted> {
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let at = unescape(left.split(' ').nth(4)?);
        let mut right = right.split(' ');
        let mounted = Mounted { kind: right.next()?.to_owned(), source: unescape(right.next()?) };
        path.starts_with(&at).then_some((at.len(), mounted))
    });
    // The longest; of several at one place the last, which covers the others.
    mounts.max_by_key(|(len, _)| *len).map(|(_, mounted)| mounted)
}

/// Spaces and their like are written in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, is)| text.replace(code, is))
}

/// Whether this process may drop the machine's caches.
pub fn may_drop_caches() -> bool {
    fs::OpenOptions::new().write(true).open(DROP_CACHES).is_ok()
}

/// Drops clean pages of the whole machine, and with `names` what the kernel knows of names and inodes.
pub(crate) fn drop_caches(names: bool) -> std::io::Result<()> {
    fs::write(DROP_CACHES, if names { "3" } else { "1" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:26 / /mnt/a\\040b rw - fuse.forebay s3://bucket rw
31 22 0:27 / /mnt rw - tmpfs tmpfs rw
32 31 0:28 / /mnt rw - xfs /dev/vdb rw
";

    #[test]
    fn a_path_is_in_the_mount_with_the_longest_name_that_lies_on_top() {
        let kind = |path: &str| mount_in(TABLE, Path::new(path)).map(|mounted| mounted.kind);
        assert_eq!(kind("/mnt/a b/c").as_deref(), Some("fuse.forebay"));
        assert_eq!(kind("/mnt/a").as_deref(), Some("xfs"));
        assert_eq!(kind("/mntx").as_deref(), Some("ext4"));
        assert_eq!(mount_in("", Path::new("/")), None);
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(meminfo("MemTotal:  10 kB\nMemAvailable:    7 kB\n", "MemAvailable"), Some(7 << 10));
        assert!(available_memory().expect("on Linux") > 1 << 20);
        assert!(Machine::look().cores > 0);
    }
}
