//! From `argv` to a command: the mount helper's form, then clap, then `-o`.
//!
//! `mount(8)` calls `mount.forebay SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`; that becomes
//! `forebay mount SOURCE TARGET -o OPTIONS`. The options of `-o` become long options and the line is parsed once more, so that
//! each option has one definition, one check and one error, however it was written.

use crate::cli::{Cli, Command};
use crate::mount_options;
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The name that `mount -t forebay` calls.
const HELPER: &str = "mount.forebay";

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The command, with `-o` folded in.
    pub(crate) cli: Cli,
    /// The arguments after the program's name, from which the daemon is started.
    pub(crate) args: Vec<OsString>,
}

/// What an `argv` asks for.
#[derive(Debug)]
pub(crate) enum Start {
    /// A command.
    Run(Box<Invocation>),
    /// `mount -f`: check the line, mount nothing.
    Nothing,
}

impl Invocation {
    /// Parses an `argv`, program name included. The error prints and exits as clap does it (code 2).
    pub(crate) fn parse(argv: Vec<OsString>) -> Result<Start, clap::Error> {
        let (argv, fake) = if is_helper(argv.first()) { from_helper(&argv[1..])? } else { (argv, false) };
        let first = Cli::try_parse_from(&argv)?;
        let expanded = match &first.command {
            Command::Mount(mount) if !mount.options.is_empty() => Some(expand(&argv, &mount.options)?),
            _ => None,
        };
        let cli = match expanded {
            Some(argv) => Cli::try_parse_from(argv)?,
            None => first,
        };
        if fake {
            return Ok(Start::Nothing);
        }
        Ok(Start::Run(Box::new(Invocation { cli, args: argv.into_iter().skip(1).collect() })))
    }
}

fn is_helper(argv0: Option<&OsString>) -> bool {
    argv0.and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(HELPER))
}

fn usage(message: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::InvalidValue, format!("{message}\n"))
}

/// The helper's arguments as `forebay mount` takes them, and whether nothing is to be mounted.
fn from_helper(args: &[OsString]) -> Result<(Vec<OsString>, bool), clap::Error> {
    let mut argv: Vec<OsString> = vec!["forebay".into(), "mount".into()];
    let mut fake = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-o") => {
                let options = args.next().ok_or_else(|| usage("mount.forebay: '-o' needs options"))?;
                argv.extend(["-o".into(), options.clone()]);
            }
            // The type that brought us here, and a namespace that mount(8) has entered already.
            Some("-t" | "-N") => drop(args.next()),
            Some(flags) if flags.starts_with('-') && flags.len() > 1 && flags[1..].chars().all(|c| "sfnv".contains(c)) => {
                fake |= flags.contains('f');
            }
            _ => argv.push(arg.clone()),
        }
    }
    Ok((argv, fake))
}

/// The line with the options of `-o` as long options, put right behind the verb (the line may end in `-- SOURCE TARGET`).
fn expand(argv: &[OsString], options: &[String]) -> Result<Vec<OsString>, clap::Error> {
    let long = mount_options::to_long(options).map_err(usage)?;
    let verb = argv.iter().skip(1).position(|arg| arg == "mount").expect("clap found the verb") + 2;
    let mut out = argv[..verb].to_vec();
    out.extend(long.into_iter().map(OsString::from));
    out.extend_from_slice(&argv[verb..]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::MountArgs;

    fn parse(line: &[&str]) -> Result<Start, clap::Error> {
        Invocation::parse(line.iter().map(OsString::from).collect())
    }

    fn mount(line: &[&str]) -> (MountArgs, Vec<OsString>) {
        match parse(line) {
            Ok(Start::Run(invocation)) => match invocation.cli.command {
                Command::Mount(mount) => (*mount, invocation.args),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mount_options_and_long_options_mean_the_same() {
        let (long, _) = mount(&["forebay", "mount", "s3://b", "/m", "--cache=/a", "--cache", "/b", "--read-only"]);
        let (short, _) = mount(&["forebay", "mount", "-o", "cache=/a,cache=/b,_netdev", "s3://b", "/m", "-o", "ro"]);
        assert_eq!((long.cache, long.read_only), (short.cache, short.read_only));
    }

    #[test]
    fn options_come_before_a_double_dash() {
        let (args, _) = mount(&["forebay", "mount", "-o", "ro", "--", "s3://b", "/m"]);
        assert!(args.read_only);
        assert_eq!(args.repository, "s3://b");
    }

    #[test]
    fn the_daemon_gets_the_line_as_it_was_given() {
        let (_, args) = mount(&["forebay", "mount", "s3://b", "/m", "-o", "ro"]);
        assert_eq!(args, ["mount", "s3://b", "/m", "-o", "ro"].map(OsString::from));
    }

    #[test]
    fn the_mount_helper_is_a_mount() {
        let line = ["/sbin/mount.forebay", "s3://b", "/m", "-sn", "-t", "forebay", "-o", "rw,allow_other,user=me"];
        let (args, passed_on) = mount(&line);
        assert!(args.allow_other && !args.foreground);
        assert_eq!(passed_on, ["mount", "s3://b", "/m", "-o", "rw,allow_other,user=me"].map(OsString::from));
        assert!(matches!(parse(&["mount.forebay", "s3://b", "/m", "-f"]), Ok(Start::Nothing)));
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for line in [
            &["forebay"][..],
            &["forebay", "chkdsk"],
            &["forebay", "fsck", "--mount", "/m", "--cache", "/c"],
            &["forebay", "fsck", "--dirty-copies", "2"],
            &["forebay", "fsck", "--cache", "/c", "--dirty-copies", "3"],
            &["forebay", "fsck", "--rate", "1M"],
            &["forebay", "mount", "s3://b"],
            &["forebay", "mount", "s3://b", "/m", "-o", "chache=/a"],
            &["forebay", "mount", "s3://b", "/m", "--region", "x", "-o", "region=y"],
            &["mount.forebay", "s3://b", "/m", "-o"],
            &["forebay", "umount", "/m", "--export", "--discard"],
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}: {error}");
        }
    }
}
