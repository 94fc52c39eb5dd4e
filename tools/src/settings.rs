//! Raw arguments of `forebay mount` to a checked [`MountPlan`]. Every bad value gives one line: the thing, the cause, the way out.
//! Reads nothing but its arguments: who runs the command comes in as [`User`].

use crate::cli::MountArgs;
use forebay_daemon::config::{
    AutoExport, AutoImport, Deployment, MetadataTtl, OnConflict, Polling, PosixMetadata, RepositorySettings, Settings,
};
use forebay_daemon::repository::queue::queue_host;
use forebay_daemon::units::{ByteCount, MIB};
use forebay_fuse::MountOptions;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a request is retried before the operation that needs it fails: longer than a fail-over or a burst of throttling,
/// shorter than a person's patience with a hanging `ls`.
const STORE_DEADLINE: Duration = Duration::from_secs(60);
/// Lustre's default stripe size too: large requests still reach one device whole, and a 4 MiB read-ahead uses four.
const STRIPE_SIZE_DEFAULT: ByteCount = ByteCount(MIB);
const METADATA_TTL_DEFAULT: Duration = Duration::from_secs(60);
/// Mode bits of what names none, as FSx for Lustre has them.
const MODE_DEFAULT: u16 = 0o755;
/// Devices are numbered by a byte.
const MAX_DEVICES: usize = 255;
/// Bytes of an SSE-C key.
const CUSTOMER_KEY_BYTES: usize = 32;

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

type Checked<T> = Result<T, BadSetting>;

fn bad<T>(thing: impl Into<String>, cause: impl Into<String>, way_out: impl Into<String>) -> Checked<T> {
    Err(BadSetting { thing: thing.into(), cause: cause.into(), way_out: way_out.into() })
}

/// Checks the arguments of `forebay mount`.
pub(crate) fn plan(args: &MountArgs, user: &User) -> Checked<MountPlan> {
    let repository = repository(args)?;
    let auto_import = auto_import(args)?;
    let mountpoint = absolute(&args.mountpoint, user);
    let cache_dirs = cache_dirs(args, user, &repository, &mountpoint)?;
    let settings = Settings {
        cache_size: args.cache_size.as_deref().map(|text| nonzero_size("--cache-size", text)).transpose()?,
        memory_target: memory_target(args.memory_target.as_deref())?,
        deployment: choice(
            "--deployment",
            args.deployment.as_deref(),
            &[("persistent", Deployment::Persistent), ("scratch", Deployment::Scratch)],
        )?,
        auto_export: auto_export(args)?,
        event_queue_url: event_queue(args, auto_import)?,
        auto_import,
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
    };
    Ok(MountPlan {
        options: MountOptions {
            source: settings.repository.url.clone(),
            allow_other: args.allow_other,
            read_only: args.read_only,
            no_exec: args.noexec,
        },
        log: log_file(args, user, &settings),
        settings,
        mountpoint,
    })
}

/// `--auto-export` and what is done about conflicts.
fn auto_export(args: &MountArgs) -> Checked<AutoExport> {
    let conflicts = [("fail", OnConflict::Fail), ("overwrite", OnConflict::Overwrite), ("skip", OnConflict::Skip)];
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
        match names.iter().position(|name| *name == event) {
            Some(at) => named[at] = true,
            None => return bad(option, format!("'{event}' is no event"), "use new, changed, deleted, separated by commas"),
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
    if check_url(&args.repository)? != Scheme::S3 {
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

// The repository.

fn repository(args: &MountArgs) -> Checked<RepositorySettings> {
    let scheme = check_url(&args.repository)?;
    let endpoint_url = args.endpoint_url.as_deref().map(|url| check_endpoint(url, scheme)).transpose()?;
    check_signing(args)?;
    check_encryption(args, scheme)?;
    for (name, value) in [("--region", &args.region), ("--profile", &args.profile)] {
        if value.as_deref().is_some_and(|value| value.trim().is_empty()) {
            return bad(name, "empty", "give it a value or leave it out");
        }
    }
    Ok(RepositorySettings {
        url: args.repository.clone(),
        force_path_style: args.force_path_style || endpoint_url.as_deref().is_some_and(is_address_or_localhost),
        endpoint_url,
        region: args.region.clone(),
        profile: args.profile.clone(),
        no_sign_request: args.no_sign_request,
        requester_pays: args.requester_pays,
        sse: args.sse.clone(),
        sse_kms_key_id: args.sse_kms_key_id.clone(),
        deadline: STORE_DEADLINE,
    })
}

/// The kinds of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    S3,
    Gcs,
    Azure,
    File,
}

fn check_url(url: &str) -> Checked<Scheme> {
    let thing = || format!("repository '{url}'");
    let forms = "write s3://bucket[/prefix], gs://…, az://… or file:///dir";
    let Some((scheme, rest)) = url.split_once("://") else {
        return bad(thing(), "has no scheme", forms);
    };
    let scheme = match scheme {
        "s3" => Scheme::S3,
        "gs" => Scheme::Gcs,
        "az" => Scheme::Azure,
        "file" if rest.starts_with('/') => return Ok(Scheme::File),
        "file" => return bad(thing(), "names no absolute directory", "write file:///dir, with three slashes"),
        other => return bad(thing(), format!("'{other}' is not a scheme of ours"), forms),
    };
    let bucket = rest.split('/').next().unwrap_or_default();
    if bucket.is_empty() {
        return bad(thing(), "names no bucket", forms);
    }
    if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return bad(thing(), format!("'{bucket}' cannot be a bucket's name"), "use letters, digits, '-', '.' and '_'");
    }
    Ok(scheme)
}

fn check_endpoint(url: &str, scheme: Scheme) -> Checked<String> {
    let thing = || format!("--endpoint-url '{url}'");
    if scheme == Scheme::File {
        return bad(thing(), "a file:// repository has no endpoint", "leave it out");
    }
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(url.trim_end_matches('/').to_owned()),
        _ => bad(thing(), "not an http:// or https:// URL", "write it as in http://127.0.0.1:9000"),
    }
}

/// Whether virtual-host style cannot work, because `bucket.<host>` would not resolve.
fn is_address_or_localhost(endpoint: &str) -> bool {
    let authority = endpoint.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

fn check_signing(args: &MountArgs) -> Checked<()> {
    match &args.profile {
        Some(profile) if args.no_sign_request => {
            bad(format!("--profile '{profile}'"), "unsigned requests use no credentials", "drop it or --no-sign-request")
        }
        _ => Ok(()),
    }
}

fn check_encryption(args: &MountArgs, scheme: Scheme) -> Checked<()> {
    let key = args.sse_kms_key_id.as_deref();
    let Some(sse) = args.sse.as_deref() else {
        return match key {
            Some(_) => bad("--sse-kms-key-id", "means nothing without --sse", "add --sse aws:kms or --sse sse-c"),
            None => Ok(()),
        };
    };
    let thing = || format!("--sse '{sse}'");
    if scheme != Scheme::S3 {
        return bad(thing(), "only s3:// repositories have it", "leave it out");
    }
    match (sse, key) {
        ("AES256", None) | ("aws:kms" | "aws:kms:dsse", _) => Ok(()),
        ("AES256", Some(_)) => bad("--sse-kms-key-id", "AES256 takes no key", "drop it or use --sse aws:kms"),
        ("sse-c", Some(key)) if is_customer_key(key) => Ok(()),
        // The key itself is not repeated: it is a secret, and errors end up in logs.
        ("sse-c", Some(_)) => bad("--sse-kms-key-id", "not 32 bytes in base64", "make one with 'openssl rand -base64 32'"),
        ("sse-c", None) => bad(thing(), "needs a key", "add --sse-kms-key-id with 32 bytes in base64"),
        _ => bad(thing(), "not known", "use AES256, aws:kms, aws:kms:dsse or sse-c"),
    }
}

/// Whether this is [`CUSTOMER_KEY_BYTES`] in padded base64: 43 digits and one `=`.
fn is_customer_key(key: &str) -> bool {
    let digits = (CUSTOMER_KEY_BYTES * 4).div_ceil(3);
    let body = key.strip_suffix('=').unwrap_or_default();
    body.len() == digits && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

// The cache.

fn cache_dirs(args: &MountArgs, user: &User, repository: &RepositorySettings, mountpoint: &Path) -> Checked<Vec<PathBuf>> {
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

fn default_cache_dir(user: &User, repository: &RepositorySettings) -> Checked<PathBuf> {
    match &user.home {
        Some(home) => Ok(home.join(".cache/forebay").join(repository_id(repository))),
        None => bad("--cache", "there is no home directory for the default", "name a cache directory"),
    }
}

/// A name for a repository that stays the same from mount to mount: a hash of its URL (one slash at the end more or less is no
/// difference) and its endpoint.
fn repository_id(repository: &RepositorySettings) -> String {
    let endpoint = repository.endpoint_url.as_deref().unwrap_or_default();
    let identity = format!("{}\0{endpoint}", repository.url.trim_end_matches('/'));
    blake3::hash(identity.as_bytes()).to_hex()[..16].to_owned()
}

fn size(name: &str, text: &str) -> Checked<ByteCount> {
    text.parse()
        .or_else(|_| bad(format!("{name} '{text}'"), "not a size", "write a number with K, M, G or T, as in 512M or 1.5T"))
}

fn nonzero_size(name: &str, text: &str) -> Checked<ByteCount> {
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
