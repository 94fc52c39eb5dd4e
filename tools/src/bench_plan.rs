//! Arguments of `forebay bench` to a checked [`Plan`], and to what is to be measured.

use crate::cli::StoreArgs;
use crate::cli_bench::BenchArgs;
use crate::error::CliError;
use crate::settings::nonzero_size;
use crate::store_settings::repository;
use forebay_daemon::config::RepositorySettings;
use forebay_suite::plan::{DirectUse, DropPages, Group, Plan, Texture};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a bench is of.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A directory.
    Directory(PathBuf),
    /// A store.
    Store(Box<RepositorySettings>),
}

/// What a run does when nothing is said: one or two minutes of a directory on a disk of today.
struct Defaults {
    size: &'static str,
    files: u64,
    threads: usize,
    blocks: &'static [&'static str],
}

const OF_DIRECTORIES: Defaults = Defaults { size: "512M", files: 5000, threads: 4, blocks: &["128K", "1M"] };
const OF_STORES: Defaults = Defaults { size: "512M", files: 1000, threads: 16, blocks: &["64K", "1M", "8M"] };
const FILE_SIZE: &str = "64K";
const ROUNDS: u32 = 3;
const SECONDS: f64 = 1.0;
/// What `--quick` makes of data and time.
const QUICK_DATA: u64 = 8;
const QUICK_TIME: f64 = 4.0;

/// What is to be measured: one, or two of a kind.
pub(crate) fn targets(args: &BenchArgs) -> Result<Vec<What>, CliError> {
    let all: Vec<What> = [Some(&args.target), args.against.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| what(path, &args.store))
        .collect::<Result<_, _>>()?;
    let stores = all.iter().filter(|what| matches!(what, What::Store(_))).count();
    if stores > 0 && stores < all.len() {
        let against = args.against.as_deref().unwrap_or(Path::new("")).display();
        return usage(format!("--against '{against}': a directory and a store have no rows in common; measure each by itself"));
    }
    let below = args.read_from.as_deref();
    match below {
        Some(_) if stores > 0 => usage("--read-from: a store has no files; leave it out"),
        Some(path) if path.is_absolute() && all.len() > 1 => {
            usage(format!("--read-from '{}': with --against it must be relative, to both directories", path.display()))
        }
        _ => Ok(all),
    }
}

fn what(path: &Path, store: &StoreArgs) -> Result<What, CliError> {
    match path.to_str().filter(|text| text.contains("://")) {
        Some(url) => {
            let settings = repository(url, store).map_err(|error| CliError::usage(error.to_string()))?;
            Ok(What::Store(Box::new(settings)))
        }
        None => match option_of_stores(store) {
            Some(option) => usage(format!("{option}: '{}' is a directory, not a store; leave it out", path.display())),
            None => Ok(What::Directory(path.to_owned())),
        },
    }
}

fn option_of_stores(store: &StoreArgs) -> Option<&'static str> {
    let options = [
        ("--endpoint-url", store.endpoint_url.is_some()),
        ("--region", store.region.is_some()),
        ("--profile", store.profile.is_some()),
        ("--force-path-style", store.force_path_style),
        ("--no-sign-request", store.no_sign_request),
        ("--sse", store.sse.is_some()),
        ("--sse-kms-key-id", store.sse_kms_key_id.is_some()),
        ("--requester-pays", store.requester_pays),
    ];
    options.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
}

/// The plan; `seed` must be another for each run.
pub(crate) fn plan(args: &BenchArgs, is_store: bool, seed: u64) -> Result<Plan, CliError> {
    let defaults = if is_store { OF_STORES } else { OF_DIRECTORIES };
    let (less, faster) = if args.quick { (QUICK_DATA, QUICK_TIME) } else { (1, 1.0) };
    let blocks = match &args.block[..] {
        [] => sizes("--block", defaults.blocks)?,
        given => sizes("--block", given)?,
    };
    let threads = args.threads.unwrap_or(defaults.threads);
    let largest = blocks.iter().copied().max().unwrap_or(0);
    let plan = Plan {
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS }),
        size_bytes: match &args.size {
            Some(given) => size("--size", given)?,
            // Many threads, or large blocks, have a block each all the same.
            None => (size("--size", defaults.size)? / less).max(largest.saturating_mul(threads as u64)),
        },
        files: args.files.unwrap_or(defaults.files / less),
        file_bytes: size("--file-size", args.file_size.as_deref().unwrap_or(FILE_SIZE))?,
        threads,
        limit: limit(args.seconds.unwrap_or(SECONDS / faster))?,
        blocks,
        data: if args.data == "compressible" { Texture::Compressible } else { Texture::Random },
        direct: match args.direct.as_str() {
            "always" => DirectUse::Always,
            "never" => DirectUse::Never,
            _ => DirectUse::Auto,
        },
        drop: match args.drop_caches.as_str() {
            "files" => DropPages::Files,
            "never" => DropPages::Never,
            _ => DropPages::Machine,
        },
        only: only(args, is_store)?,
        seed,
    };
    plan.check().map_err(|error| CliError::usage(error.to_string()))?;
    Ok(plan)
}

fn limit(seconds: f64) -> Result<Duration, CliError> {
    Duration::try_from_secs_f64(seconds).or_else(|_| usage(format!("--seconds '{seconds}': not a time; write it as in 0.5")))
}

fn size(option: &str, text: &str) -> Result<u64, CliError> {
    nonzero_size(option, text).map(|bytes| bytes.0).map_err(|error| CliError::usage(error.to_string()))
}

fn sizes(option: &str, texts: &[impl AsRef<str>]) -> Result<Vec<u64>, CliError> {
    texts.iter().map(|text| size(option, text.as_ref())).collect()
}

/// The groups that are wanted, by name.
fn only(args: &BenchArgs, is_store: bool) -> Result<Vec<Group>, CliError> {
    let kind = if is_store { "a store" } else { "a directory" };
    let there: Vec<Group> = Group::ALL.into_iter().filter(|group| group.is_of_stores() == is_store).collect();
    let group = |name: &String| {
        there.iter().copied().find(|group| group.name() == name.trim()).map_or_else(
            || {
                let names = there.iter().map(|group| group.name()).collect::<Vec<_>>().join(", ");
                usage(format!("--only '{name}': not a group of {kind}; use {names}"))
            },
            Ok,
        )
    };
    let only = args.only.iter().map(group).collect::<Result<Vec<Group>, CliError>>()?;
    if only.contains(&Group::Existing) && args.read_from.is_none() {
        return usage("--only existing: nothing says what is to be read; add --read-from PATH");
    }
    Ok(only)
}

fn usage<T>(message: impl Into<String>) -> Result<T, CliError> {
    Err(CliError::usage(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn args(words: &[&str]) -> BenchArgs {
        let cli = Cli::try_parse_from(["forebay", "bench"].iter().chain(words)).expect("parses");
        match cli.command {
            Command::Bench(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn refused(words: &[&str]) -> String {
        let args = args(words);
        let is_store = words[0].contains("://");
        match targets(&args).and_then(|_| plan(&args, is_store, 1)) {
            Err(CliError::Usage(message)) => message,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_sane_and_quick_is_less() {
        let all = plan(&args(&["/d"]), false, 1).expect("a plan");
        assert_eq!((all.rounds, all.size_bytes, all.files, all.threads), (3, 512 << 20, 5000, 4));
        let quick = plan(&args(&["/d", "--quick", "--files", "70"]), false, 1).expect("a plan");
        assert_eq!((quick.rounds, quick.size_bytes, quick.files, quick.limit), (1, 64 << 20, 70, Duration::from_millis(250)));
        let store = plan(&args(&["s3://b"]), true, 1).expect("a plan");
        assert_eq!((store.threads, store.blocks.len()), (16, 3));
        let quick = plan(&args(&["s3://b", "--quick"]), true, 1).expect("a plan");
        assert_eq!(quick.size_bytes, 128 << 20, "an object of 8 MiB for each thread");
    }

    #[test]
    fn what_makes_no_sense_is_said_in_a_line() {
        for (words, part) in [
            (&["/d", "--only", "speed"][..], "--only 'speed': not a group of a directory; use existing, sequential"),
            (&["/d", "--only", "get"], "--only 'get': not a group of a directory"),
            (&["s3://b", "--only", "small"], "not a group of a store; use put, get, list"),
            (&["/d", "--only", "existing"], "add --read-from PATH"),
            (&["/d", "--against", "s3://b"], "a directory and a store have no rows in common"),
            (&["/d", "--against", "/e", "--read-from", "/d/x"], "must be relative"),
            (&["s3://b", "--read-from", "x"], "a store has no files"),
            (&["/d", "--region", "x"], "--region: '/d' is a directory, not a store"),
            (&["ftp://b"], "'ftp' is not a scheme of ours"),
            (&["/d", "--size", "much"], "--size 'much'"),
            (&["/d", "--seconds=-1"], "--seconds '-1'"),
            (&["/d", "--rounds", "0"], "--rounds 0 is not between"),
            (&["/d", "--block", "1000"], "--block 1000 is not a multiple of 4096"),
        ] {
            let message = refused(words);
            assert!(message.contains(part) && !message.contains('\n'), "{words:?}: {message}");
        }
    }

    #[test]
    fn two_of_a_kind_are_measured_together() {
        let both = targets(&args(&["/d", "--against", "/e", "--read-from", "x"])).expect("targets");
        assert!(matches!(&both[..], [What::Directory(a), What::Directory(b)] if a == Path::new("/d") && b == Path::new("/e")));
        let stores = targets(&args(&["s3://a/p", "--against", "s3://b", "--region", "r"])).expect("targets");
        assert!(stores.iter().all(|what| matches!(what, What::Store(s) if s.region.as_deref() == Some("r"))));
    }
}
