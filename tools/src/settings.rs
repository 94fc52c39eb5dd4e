//! Raw arguments of `forebay mount` to a checked [`MountPlan`]. Every bad value gives one line: the thing, the cause, the way out.
//! Reads nothing but its arguments: who runs the command comes in as [`User`].

use crate::cli::MountArgs;
use crate::store_settings::{Scheme, check_url, repository};
use forebay_daemon::config::{
    AutoExport, AutoImport, Deployment, MetadataTtl, OnConflict, Polling, PosixMetadata, RepositorySettings, Settings,
};
use forebay_daemon::format::text;
use forebay_daemon::repository::queue::queue_host;
use forebay_daemon::units::{ByteCount, MIB};
use forebay_fuse::MountOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lustre's default stripe size too: large requests still reach one device whole, and a 4 MiB read-ahead uses four.
const STRIPE_SIZE_DEFAULT: ByteCount = ByteCount(MIB);
const METADATA_TTL_DEFAULT: Duration = Duration::from_secs(60);
/// Mode bits of what names none, as FSx for Lustre has them.
const MODE_DEFAULT: u16 = 0o755;
/// Devices are numbered by a byte.
const MAX_DEVICES: usize = 255;

/// Who mounts, and from where.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Effective user id.
    pub(crate) uid: u32,
    /// Effective group id.
    pub(crate) gid: u32,
    /// The home directory, where there is one.
    pub(crate) home: Option<PathBuf>,
    /// The working directory, for relative paths.
    pub(crate) cwd: PathBuf,
}

/// Everything `forebay mount` does, decided.
#[derive(Clone, Debug)]
pub(crate) struct MountPlan {
    /// For the engine.
    pub(crate) settings: Settings,
    /// For FUSE.
    pub(crate) options: MountOptions,
    /// Absolute, not yet looked at.
    pub(crate) mountpoint: PathBuf,
    /// The log file; `None` is standard error.
    pub(crate) log: Option<PathBuf>,
}

/// A value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{thing}: {cause}; {way_out}")]
pub(crate) struct BadSetting {
    /// The option and its value.
    thing: String,
    cause: String,
    way_out: String,
}

pub(crate) type Checked<T> = Result<T, BadSetting>;

pub(crate) fn bad<T>(thing: impl Into<String>, cause: impl Into<String>, way_out: impl Into<String>) -> Checked<T> {
    Err(BadSetting { thing: thing.into(), cause: cause.into(), way_out: way_out.into() })
}

/// Checks the arguments of `forebay mount`.
pub(crate) fn plan(args: &MountArgs, user: &User) -> Checked<MountPlan> {
    let (url, snapshot) = split_snapshot(&args.repository);
    // One spelling of a name, however it was given.
    let snapshot = snapshot.map(|name| text::encode(&text::decode(name)));
    if snapshot.is_some() {
        check_snapshot(args)?;
    }
    let repository = match url {
        RepositorySettings::NONE => no_repository(args)?,
        url => repository(url, &args.store)?,
    };
    let auto_import = auto_import(args)?;
    let mountpoint = absolute(&args.mountpoint, user);
    let cache_dirs = cache_dirs(args, user, (&repository, snapshot.as_deref()), &mountpoint)?;
    let settings = Settings {
        cache_size: args.cache_size.as_deref().map(|text| nonzero_size("--cache-size", text)).transpose()?,
        memory_target: memory_target(args.memory_target.as_deref())?,
        deployment: choice(
            "--deployment",
            args.deployment.as_deref(),
            &[("persistent", Deployment::Persistent), ("scratch", Deployment::Scratch)],
        )?,
        auto_export: if args.auto_export.is_some() || args.on_conflict.is_some() { Some(auto_export(args)?) } else { None },
        event_queue_url: event_queue(args, auto_import)?,
        auto_import: args.auto_import.is_some().then_some(auto_import),
        polling: Polling::default(),
        dirty_copies: choice("--dirty-copies", args.dirty_copies.as_deref(), &[("1", 1), ("2", 2)])?,
        compression: choice("--compression", args.compression.as_deref(), &[("lz4", true), ("none", false)])?,
        dedup: choice("--dedup", args.dedup.as_deref(), &[("on", true), ("off", false)])?,
        stripe_count: args.stripe_count.as_deref().map_or(Ok(0), |text| stripe_count(text, Some(cache_dirs.len())))?,
        stripe_size: args.stripe_size.as_deref().map_or(Ok(STRIPE_SIZE_DEFAULT), stripe_size)?,
        posix_metadata: choice(
            "--posix-metadata",
            args.posix_metadata.as_deref(),
            &[("free", PosixMetadata::Free), ("eager", PosixMetadata::Eager), ("off", PosixMetadata::Off)],
        )?,
        metadata_ttl: args.metadata_ttl.as_deref().map_or(Ok(MetadataTtl::For(METADATA_TTL_DEFAULT)), metadata_ttl)?,
        uid: id("--uid", args.uid.as_deref(), user.uid)?,
        gid: id("--gid", args.gid.as_deref(), user.gid)?,
        file_mode: mode("--file-mode", args.file_mode.as_deref())?,
        dir_mode: mode("--dir-mode", args.dir_mode.as_deref())?,
        cache_dirs,
        repository,
        snapshot,
    };
    Ok(MountPlan {
        options: MountOptions {
            source: settings.source(),
            allow_other: args.allow_other,
            read_only: args.read_only || settings.snapshot.is_some(),
            no_exec: args.noexec,
        },
        log: log_file(args, user, &settings),
        settings,
        mountpoint,
    })
}

/// The URL, and the name of the snapshot in `URL@NAME`. An `@` before the last slash is part of a prefix.
fn split_snapshot(repository: &str) -> (&str, Option<&str>) {
    match repository.rsplit_once('@') {
        Some((url, name)) if url.contains("://") && !name.is_empty() && !name.contains('/') => (url, Some(name)),
        _ => (repository, None),
    }
}

/// What makes no sense for a snapshot that was exported.
fn check_snapshot(args: &MountArgs) -> Checked<()> {
    let options = [
        ("--auto-import", args.auto_import.is_some()),
        ("--auto-export", args.auto_export.is_some()),
        ("--on-conflict", args.on_conflict.is_some()),
        ("--posix-metadata", args.posix_metadata.is_some()),
        ("--metadata-ttl", args.metadata_ttl.is_some()),
    ];
    match options.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => bad(option, format!("'{}' is a snapshot, which does not change", args.repository), "leave it out"),
        None => Ok(()),
    }
}

/// A mount whose root has no bucket.
fn no_repository(args: &MountArgs) -> Checked<RepositorySettings> {
    if args.auto_import.is_some() || args.auto_export.is_some() {
        return bad("--auto-import and --auto-export", "'none' has no bucket", "give them to 'forebay dra create'");
    }
    if args.cache.is_empty() {
        return bad("--cache", "'none' says nothing by which the cache would be found again", "name a cache directory");
    }
    let args = &args.store;
    Ok(RepositorySettings {
        url: RepositorySettings::NONE.to_owned(),
        endpoint_url: None,
        region: args.region.clone(),
        profile: args.profile.clone(),
        force_path_style: args.force_path_style,
        no_sign_request: args.no_sign_request,
        requester_pays: args.requester_pays,
        sse: None,
        sse_kms_key_id: None,
        deadline: crate::store_settings::STORE_DEADLINE,
    })
}

/// `--auto-export` and what is done about conflicts.
fn auto_export(args: &MountArgs) -> Checked<AutoExport> {
    let conflicts = [
        ("fail", OnConflict::Fail),
        ("overwrite", OnConflict::Overwrite),
        ("skip", OnConflict::Skip),
        ("keep-both", OnConflict::KeepBoth),
    ];
    let on_conflict = choice("--on-conflict", args.on_conflict.as_deref(), &conflicts)?;
    let [new, changed, deleted] = events("--auto-export", args.auto_export.as_deref())?;
    let auto = AutoExport { new, changed, deleted, on_conflict };
    if auto.is_on() && args.read_only {
        return bad("--auto-export", "a read-only mount changes nothing", "leave one of the two out");
    }
    Ok(auto)
}

/// Which of new, changed and deleted a list names.
fn events(option: &str, list: Option<&str>) -> Checked<[bool; 3]> {
    let names = ["new", "changed", "deleted"];
    let mut named = [false; 3];
    for event in list.iter().flat_map(|list| list.split(',')) {
        let event = event.trim().to_lowercase();
        if event == "none" {
            continue;
        }
        match names.iter().position(|name| *name == event) {
            Some(at) => named[at] = true,
            None => {
                return bad(option, format!("'{event}' is no event"), "use new, changed, deleted, separated by commas, or none");
            }
        }
    }
    Ok(named)
}

/// `--auto-import`.
fn auto_import(args: &MountArgs) -> Checked<AutoImport> {
    let [new, changed, deleted] = events("--auto-import", args.auto_import.as_deref())?;
    Ok(AutoImport { new, changed, deleted })
}

/// `--event-queue-url`.
fn event_queue(args: &MountArgs, auto: AutoImport) -> Checked<Option<String>> {
    let Some(url) = args.event_queue_url.as_deref() else { return Ok(None) };
    let thing = || format!("--event-queue-url '{url}'");
    if !auto.is_on() {
        return bad(thing(), "nothing comes in by itself", "add --auto-import new,changed,deleted, or leave it out");
    }
    if args.repository == RepositorySettings::NONE || check_url(&args.repository)? != Scheme::S3 {
        return bad(thing(), "only s3:// repositories tell of changes in a queue", "leave it out; the bucket is listed instead");
    }
    if queue_host(url).is_none() {
        let form = "write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, as the queue's details show it";
        return bad(thing(), "not the URL of a queue", form);
    }
    Ok(Some(url.to_owned()))
}

/// The daemon's log is beside its first cache; what stays in the foreground says it there, unless told otherwise.
fn log_file(args: &MountArgs, user: &User, settings: &Settings) -> Option<PathBuf> {
    match &args.log {
        Some(log) => Some(absolute(log, user)),
        None if args.foreground => None,
        None => settings.cache_dirs.first().map(|dir| dir.join("forebay.log")),
    }
}

fn absolute(path: &Path, user: &User) -> PathBuf {
    // Joined, then cleaned of `.` and double slashes: the daemon leaves the working directory.
    user.cwd.join(path).components().collect()
}

// The cache.

fn cache_dirs(
    args: &MountArgs,
    user: &User,
    repository: (&RepositorySettings, Option<&str>),
    mountpoint: &Path,
) -> Checked<Vec<PathBuf>> {
    if args.cache.is_empty() {
        return default_cache_dir(user, repository).map(|dir| vec![dir]);
    }
    if args.cache.len() > MAX_DEVICES {
        return bad("--cache", format!("given {} times", args.cache.len()), format!("use at most {MAX_DEVICES} devices"));
    }
    let mut dirs: Vec<PathBuf> = Vec::with_capacity(args.cache.len());
    for dir in &args.cache {
        let thing = || format!("--cache '{}'", dir.display());
        let path = absolute(dir, user);
        if path.starts_with(mountpoint) {
            return bad(thing(), "lies in the mount point", "put the cache somewhere else");
        }
        if dirs.contains(&path) {
            return bad(thing(), "given twice", "name each device once");
        }
        dirs.push(path);
    }
    Ok(dirs)
}

fn default_cache_dir(user: &User, repository: (&RepositorySettings, Option<&str>)) -> Checked<PathBuf> {
    match &user.home {
        Some(home) => Ok(home.join(".cache/forebay").join(repository_id(repository))),
        None => bad("--cache", "there is no home directory for the default", "name a cache directory"),
    }
}

/// A name for a repository that stays the same from mount to mount: a hash of its URL (one slash at the end more or less is no
/// difference), its endpoint, and a snapshot there.
fn repository_id((repository, snapshot): (&RepositorySettings, Option<&str>)) -> String {
    let endpoint = repository.endpoint_url.as_deref().unwrap_or_default();
    let mut identity = format!("{}\0{endpoint}", repository.url.trim_end_matches('/'));
    identity.extend(snapshot.iter().flat_map(|name| ["\0", name]));
    blake3::hash(identity.as_bytes()).to_hex()[..16].to_owned()
}

fn size(name: &str, text: &str) -> Checked<ByteCount> {
    text.parse()
        .or_else(|_| bad(format!("{name} '{text}'"), "not a size", "write a number with K, M, G or T, as in 512M or 1.5T"))
}

pub(crate) fn nonzero_size(name: &str, text: &str) -> Checked<ByteCount> {
    match size(name, text)? {
        ByteCount(0) => bad(format!("{name} '{text}'"), "nothing fits in it", "write a number with K, M, G or T"),
        bytes => Ok(bytes),
    }
}

fn memory_target(text: Option<&str>) -> Checked<ByteCount> {
    let Some(text) = text else { return Ok(Settings::MEMORY_DEFAULT) };
    match size("--memory-target", text)? {
        bytes if bytes < Settings::MEMORY_FLOOR => {
            let floor = Settings::MEMORY_FLOOR;
            bad(format!("--memory-target '{text}'"), "too little to work with", format!("give it {floor} or more"))
        }
        bytes => Ok(bytes),
    }
}

/// A stripe count; where the number of devices is known, no more than there are.
pub(crate) fn stripe_count(text: &str, devices: Option<usize>) -> Checked<u8> {
    let thing = || format!("--stripe-count '{text}'");
    let Ok(count) = text.parse::<u8>() else {
        return bad(thing(), "not a number of devices", format!("write 0 (all) to {MAX_DEVICES}"));
    };
    match devices {
        Some(devices) if usize::from(count) > devices => {
            bad(thing(), format!("there are only {devices} cache directories"), "write 0 for all of them")
        }
        _ => Ok(count),
    }
}

/// A stripe size: whole blocks.
pub(crate) fn stripe_size(text: &str) -> Checked<ByteCount> {
    let block = u64::from(Settings::BLOCK_SIZE);
    match nonzero_size("--stripe-size", text)? {
        ByteCount(bytes) if bytes % block != 0 => bad(
            format!("--stripe-size '{text}'"),
            "not a whole number of blocks",
            format!("use a multiple of {}", ByteCount(block)),
        ),
        bytes => Ok(bytes),
    }
}

// The rest.

/// One of a few words; the first is the default.
fn choice<T: Copy>(name: &str, text: Option<&str>, choices: &[(&str, T)]) -> Checked<T> {
    let Some(text) = text else { return Ok(choices[0].1) };
    match choices.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            bad(format!("{name} '{text}'"), "not known", format!("use {}", words.join(" or ")))
        }
    }
}

fn metadata_ttl(text: &str) -> Checked<MetadataTtl> {
    if text == "indefinite" {
        return Ok(MetadataTtl::Indefinite);
    }
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    match seconds.or_else(|| humantime::parse_duration(text).ok()) {
        // More than the kernel's clock arithmetic is happy with is as good as for ever.
        Some(ttl) => Ok(MetadataTtl::For(ttl.min(MetadataTtl::Indefinite.as_duration()))),
        None => bad(format!("--metadata-ttl '{text}'"), "not a time", "write seconds, 5m, 1h or indefinite"),
    }
}

fn id(name: &str, text: Option<&str>, own: u32) -> Checked<u32> {
    match text.map(str::parse::<u32>) {
        None => Ok(own),
        // The kernel keeps this one to mean "unchanged".
        Some(Ok(id)) if id != u32::MAX => Ok(id),
        _ => bad(format!("{name} '{}'", text.unwrap_or_default()), "not a numeric id", "write a number, as 'id' prints it"),
    }
}

fn mode(name: &str, text: Option<&str>) -> Checked<u16> {
    let Some(text) = text else { return Ok(MODE_DEFAULT) };
    match u16::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(bits) if bits <= 0o7777 => Ok(bits),
        _ => bad(format!("{name} '{text}'"), "not permission bits in octal", "write it as in 0644"),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
