//! The options of `-o`, as mount(8) and fstab write them, as long options.

/// Options with a value; `cache_size` is written as well as `cache-size`.
const WITH_VALUE: &[&str] = &[
    "cache",
    "cache-size",
    "memory-target",
    "deployment",
    "dirty-copies",
    "compression",
    "dedup",
    "stripe-count",
    "stripe-size",
    "auto-import",
    "event-queue-url",
    "auto-export",
    "on-conflict",
    "endpoint-url",
    "region",
    "profile",
    "sse",
    "sse-kms-key-id",
    "posix-metadata",
    "metadata-ttl",
    "uid",
    "gid",
    "file-mode",
    "dir-mode",
    "log",
];
/// Options that stand alone.
const FLAGS: &[&str] =
    &["force-path-style", "no-sign-request", "requester-pays", "read-only", "allow-other", "verbose", "noexec"];

/// What mount(8), fstab and systemd put into the options for their own use, and what every mount of ours is anyway
/// (`nosuid,nodev`, no access times). `suid` and `dev` are not granted: a bucket is no place for such files.
const IGNORED: &[&str] = &[
    "defaults",
    "rw",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "exec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
];

/// An option that nobody knows, or that is written wrongly.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOption {
    /// Not one of ours.
    #[error("mount option '{0}' is not known; 'forebay mount --help' lists the options, and '-o' takes them without the '--'")]
    Unknown(String),
    /// `cache` without a directory.
    #[error("mount option '{0}' needs a value, as in '{0}=…'")]
    NeedsValue(String),
    /// `allow_other=yes`.
    #[error("mount option '{0}' takes no value")]
    NoValue(String),
}

/// The long options that a list of `-o` arguments stands for.
pub(crate) fn to_long(options: &[String]) -> Result<Vec<String>, BadOption> {
    let each = options.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|option| !option.is_empty());
    each.filter_map(|option| one(option).transpose()).collect()
}

fn one(option: &str) -> Result<Option<String>, BadOption> {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    if is_ignored(key) {
        return Ok(None);
    }
    let name = match key.replace('_', "-") {
        short if short == "ro" => "read-only".to_owned(),
        name => name,
    };
    let takes_value = WITH_VALUE.contains(&name.as_str());
    match value {
        Some(value) if takes_value && !value.is_empty() => Ok(Some(format!("--{name}={value}"))),
        _ if takes_value => Err(BadOption::NeedsValue(key.to_owned())),
        None if FLAGS.contains(&name.as_str()) => Ok(Some(format!("--{name}"))),
        Some(_) if FLAGS.contains(&name.as_str()) => Err(BadOption::NoValue(key.to_owned())),
        _ => Err(BadOption::Unknown(key.to_owned())),
    }
}

/// `x-…` and `X-…` are comments for others (`x-systemd.automount`), `comment=` the older form of it; mount(8) turns `user` into
/// `user=NAME`.
fn is_ignored(key: &str) -> bool {
    IGNORED.contains(&key) || key.starts_with("x-") || key.starts_with("X-") || key == "comment"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(options: &str) -> Result<Vec<String>, BadOption> {
        to_long(&[options.to_owned()])
    }

    #[test]
    fn known_options_become_long_ones_in_order() {
        let expected = ["--cache=/nvme0", "--cache=/nvme1", "--cache-size=5G", "--allow-other", "--read-only", "--uid=7"];
        assert_eq!(long("cache=/nvme0,cache=/nvme1,cache_size=5G,allow_other,ro,uid=7").unwrap(), expected);
        assert_eq!(long("endpoint-url=http://h:1/?a=b").unwrap(), ["--endpoint-url=http://h:1/?a=b"]);
    }

    #[test]
    fn what_is_meant_for_others_is_passed_over() {
        let fstab = "rw,_netdev,noauto,user=me,users,nofail,x-systemd.automount,x-systemd.idle-timeout=60,comment=a,,defaults";
        assert!(long(fstab).unwrap().is_empty());
    }

    #[test]
    fn every_option_of_the_command_is_known() {
        use clap::CommandFactory;
        let command = crate::cli::Cli::command();
        let mount = command.find_subcommand("mount").unwrap();
        let not_for_fstab = ["foreground", "ready-on-stdout", "help", "version", "json"];
        for arg in mount.get_arguments().filter_map(|arg| arg.get_long()).filter(|arg| !not_for_fstab.contains(arg)) {
            assert!([WITH_VALUE, FLAGS].concat().contains(&arg), "{arg}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        for (options, error) in [
            ("ro,chache=/a", BadOption::Unknown("chache".into())),
            ("foreground", BadOption::Unknown("foreground".into())),
            ("cache", BadOption::NeedsValue("cache".into())),
            ("cache_size=", BadOption::NeedsValue("cache_size".into())),
            ("allow_other=yes", BadOption::NoValue("allow_other".into())),
        ] {
            assert_eq!(long(options), Err(error), "{options}");
        }
    }
}
