//! POSIX attributes as user metadata of an object, in the form that FSx for Lustre and DataSync write and read.
//!
//! Parsing is total and tolerant: each field stands on its own, and one that makes no sense is as good as missing.

use std::collections::BTreeMap;

/// `st_mode` in octal, type bits included: `0100664`.
pub const PERMISSIONS: &str = "file-permissions";
/// The owner's number.
pub const OWNER: &str = "file-owner";
/// The group's number.
pub const GROUP: &str = "file-group";
/// Access time: `1595002920000000000ns`, or milliseconds without the suffix.
pub const ATIME: &str = "file-atime";
/// Modification time, as [`ATIME`].
pub const MTIME: &str = "file-mtime";
/// Who wrote the object.
pub const AGENT: &str = "user-agent";

/// What an object's user metadata says about the file; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PosixMetadata {
    /// `st_mode`: type and permission bits, 16 bits at most.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time, ns since the Unix epoch.
    pub atime_ns: Option<i64>,
    /// Modification time, ns since the Unix epoch.
    pub mtime_ns: Option<i64>,
    /// Who wrote the object.
    pub agent: Option<String>,
}

/// The file type in a mode's type bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeKind {
    /// `S_IFREG`, or no type bits at all.
    File,
    /// `S_IFDIR`.
    Directory,
    /// `S_IFLNK`.
    Symlink,
    /// A socket, device or FIFO, which an object cannot be.
    Other,
}

impl PosixMetadata {
    /// Reads user metadata, names in lower case without the `x-amz-meta-` prefix.
    pub fn parse(metadata: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| metadata.get(name).map(|value| value.trim());
        PosixMetadata {
            mode: field(PERMISSIONS).and_then(parse_mode),
            uid: field(OWNER).and_then(|text| text.parse().ok()),
            gid: field(GROUP).and_then(|text| text.parse().ok()),
            atime_ns: field(ATIME).and_then(parse_time),
            mtime_ns: field(MTIME).and_then(parse_time),
            agent: field(AGENT).filter(|text| !text.is_empty()).map(str::to_owned),
        }
    }

    /// The user metadata that says this.
    pub fn write(&self) -> BTreeMap<String, String> {
        let time = |ns: i64| format!("{ns}ns");
        let fields = [
            (PERMISSIONS, self.mode.map(|mode| format!("{mode:07o}"))),
            (OWNER, self.uid.map(|uid| uid.to_string())),
            (GROUP, self.gid.map(|gid| gid.to_string())),
            (ATIME, self.atime_ns.map(time)),
            (MTIME, self.mtime_ns.map(time)),
            (AGENT, self.agent.clone()),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Permission bits.
    pub fn perm(&self) -> Option<u16> {
        self.mode.map(|mode| (mode & 0o7777) as u16)
    }

    /// What the type bits say. A key that ends in `/` is a directory whatever they say.
    pub fn kind(&self) -> Option<ModeKind> {
        Some(match self.mode? & 0o170_000 {
            0 | 0o100_000 => ModeKind::File,
            0o040_000 => ModeKind::Directory,
            0o120_000 => ModeKind::Symlink,
            _ => ModeKind::Other,
        })
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    // from_str_radix takes a sign, which no mode has.
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = digits.bytes().all(|c| c.is_ascii_digit()).then(|| u32::from_str_radix(digits, 8).ok())??;
    (mode <= 0o177_777).then_some(mode)
}

fn parse_time(text: &str) -> Option<i64> {
    match text.strip_suffix("ns") {
        Some(ns) => ns.trim().parse().ok(),
        None => text.parse::<i64>().ok()?.checked_mul(1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_fsx_writes_is_read() {
        let got = PosixMetadata::parse(&metadata(&[
            ("file-permissions", "0100664"),
            ("file-owner", "500"),
            ("file-group", "501"),
            ("file-atime", "1595002920000000000ns"),
            ("file-mtime", "1595002920123"),
            ("user-agent", "aws-fsx-lustre"),
        ]));
        assert_eq!((got.mode, got.perm(), got.kind()), (Some(0o100_664), Some(0o664), Some(ModeKind::File)));
        assert_eq!((got.uid, got.gid), (Some(500), Some(501)));
        assert_eq!((got.atime_ns, got.mtime_ns), (Some(1_595_002_920_000_000_000), Some(1_595_002_920_123_000_000)));
        assert_eq!(got.agent.as_deref(), Some("aws-fsx-lustre"));
    }

    #[test]
    fn types_are_told_apart() {
        for (mode, kind) in [
            ("0040755", ModeKind::Directory),
            ("0120777", ModeKind::Symlink),
            ("0644", ModeKind::File),
            ("0140644", ModeKind::Other),
        ] {
            assert_eq!(PosixMetadata::parse(&metadata(&[("file-permissions", mode)])).kind(), Some(kind), "{mode}");
        }
    }

    #[test]
    fn a_bad_field_spoils_no_other() {
        for bad in ["", "x", "0888", "+644", "-1", "07777777777777", "0200000"] {
            let got = PosixMetadata::parse(&metadata(&[("file-permissions", bad), ("file-owner", "7"), ("file-mtime", "ns")]));
            assert_eq!((got.mode, got.uid, got.mtime_ns), (None, Some(7), None), "{bad}");
        }
        assert_eq!(PosixMetadata::parse(&metadata(&[("file-mtime", "9223372036854775807")])).mtime_ns, None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            mode in proptest::option::of(0u32..=0o177_777),
            ids in (proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>())),
            times in (proptest::option::of(any::<i64>()), proptest::option::of(any::<i64>())),
        ) {
            let agent = Some("forebay/1".to_owned());
            let wanted = PosixMetadata { mode, uid: ids.0, gid: ids.1, atime_ns: times.0, mtime_ns: times.1, agent };
            prop_assert_eq!(PosixMetadata::parse(&wanted.write()), wanted);
        }

        #[test]
        fn any_text_is_read_or_ignored(text in ".*") {
            let all = [PERMISSIONS, OWNER, GROUP, ATIME, MTIME, AGENT].map(|name| (name, text.as_str()));
            let _ = PosixMetadata::parse(&metadata(&all)).kind();
        }
    }
}
