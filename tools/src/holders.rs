//! Who keeps a mount busy, as far as `/proc` tells. Reads links only, so it never asks the mounted file system.

use std::path::{Path, PathBuf};

/// At most so many are named.
const NAMED: usize = 3;

/// A process and how it uses the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
}

/// ` (in use by bash (pid 12), python (pid 13) and 2 more)`, or nothing where nobody is found: other users' processes cannot be
/// looked into without root.
pub(crate) fn describe(mountpoint: &Path) -> String {
    phrase(&find(Path::new("/proc"), mountpoint))
}

fn phrase(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let named: Vec<String> = holders.iter().take(NAMED).map(|h| format!("{} (pid {})", h.name, h.pid)).collect();
    let more = match holders.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" (in use by {}{more})", named.join(", "))
}

fn find(proc: &Path, mountpoint: &Path) -> Vec<Holder> {
    let mut pids: Vec<u32> = std::fs::read_dir(proc)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    pids.sort_unstable();
    pids.into_iter().filter(|pid| *pid != std::process::id()).filter_map(|pid| holder(proc, pid, mountpoint)).collect()
}

fn holder(proc: &Path, pid: u32, mountpoint: &Path) -> Option<Holder> {
    let dir = proc.join(pid.to_string());
    links(&dir).into_iter().any(|target| target.starts_with(mountpoint)).then(|| Holder {
        pid,
        name: std::fs::read_to_string(dir.join("comm")).map_or_else(|_| "?".into(), |name| name.trim().to_owned()),
    })
}

/// Everything a process holds by name: working directory, root, program, mapped and open files.
fn links(dir: &Path) -> Vec<PathBuf> {
    let lists = ["fd", "map_files"].into_iter().filter_map(|name| std::fs::read_dir(dir.join(name)).ok());
    let listed = lists.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    let named = ["cwd", "root", "exe"].map(|name| dir.join(name));
    named.into_iter().chain(listed).filter_map(|link| std::fs::read_link(link).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_directory_and_an_open_file_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().canonicalize().unwrap();
        let file = std::fs::File::create(mount.join("file")).unwrap();
        let mut inside = std::process::Command::new("sleep").arg("60").current_dir(&mount).spawn().unwrap();
        let mut reader = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let found: Vec<u32> = find(Path::new("/proc"), &mount).into_iter().map(|holder| holder.pid).collect();
        for child in [&mut inside, &mut reader] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(found.contains(&inside.id()) && found.contains(&reader.id()), "{found:?}");
    }

    #[test]
    fn a_few_are_named_and_the_rest_counted() {
        let holders: Vec<Holder> = (1..=5).map(|pid| Holder { pid, name: "sh".into() }).collect();
        assert_eq!(phrase(&holders), " (in use by sh (pid 1), sh (pid 2), sh (pid 3) and 2 more)");
        assert_eq!(phrase(&[]), "");
    }
}
