//! `/proc/self/mountinfo`: which file systems are mounted where. Asks the kernel, not the file systems, so it answers even when
//! a mount's daemon is dead or hangs.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Major and minor device number, as `st_dev` and `/sys/class/bdi` have it.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Such as `ext4` or `fuse.forebay`.
    pub fs_type: String,
    /// What is mounted; the repository's URL for a Forebay mount.
    pub source: String,
}

impl MountEntry {
    /// Whether this is a Forebay mount.
    pub fn is_forebay(&self) -> bool {
        self.fs_type.strip_prefix("fuse.") == Some(crate::SUBTYPE)
    }
}

/// All mounts, in the order they were made.
pub fn read() -> std::io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mount at exactly this path; the uppermost where several are stacked.
pub fn at<'a>(mounts: &'a [MountEntry], mountpoint: &Path) -> Option<&'a MountEntry> {
    mounts.iter().rfind(|entry| entry.mountpoint == mountpoint)
}

/// The mount that a path (absolute, without symlinks) lies in.
pub fn holding<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    path.ancestors().find_map(|ancestor| at(mounts, ancestor))
}

/// Parses the file's text; lines that do not look as proc(5) says are passed over.
pub fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    Some(MountEntry {
        device: parse_device(fields.get(2)?)?,
        mountpoint: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fs_type: String::from_utf8_lossy(&unescape(fields.get(separator + 1)?)).into_owned(),
        source: String::from_utf8_lossy(&unescape(fields.get(separator + 2)?)).into_owned(),
    })
}

fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes the kernel's escapes: space, tab, newline and backslash stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// A path made absolute with symlinks resolved in all but its last part, which is never looked into: it may be a dead mount.
pub fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => Ok(parent.canonicalize()?.join(name)),
        _ => absolute.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        90 22 0:47 / /mnt/my\\040data rw,nosuid,nodev - fuse.forebay s3://bucket/a\\134b rw,user_id=0\n\
        91 22 0:48 / /mnt/my\\040data ro - tmpfs tmpfs rw\n\
        nonsense\n";

    #[test]
    fn fields_are_read_and_unescaped() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!(
            mounts[1],
            MountEntry {
                device: (0, 47),
                mountpoint: "/mnt/my data".into(),
                fs_type: "fuse.forebay".into(),
                source: "s3://bucket/a\\b".into(),
            }
        );
        assert!(mounts[1].is_forebay() && !mounts[2].is_forebay());
    }

    #[test]
    fn the_uppermost_mount_holds_a_path() {
        let mounts = parse(SAMPLE);
        assert_eq!(holding(&mounts, Path::new("/mnt/my data/x/y")).map(|m| m.device), Some((0, 48)));
        assert_eq!(holding(&mounts, Path::new("/mnt/my database")).map(|m| m.device), Some((254, 0)));
    }

    #[test]
    fn the_last_part_of_a_path_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/nowhere", real.join("link")).unwrap();
        assert_eq!(resolve(&real.join("link")).unwrap(), real.join("link"));
        assert!(resolve(&real.join("missing/child")).is_err());
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&text);
        }
    }
}
