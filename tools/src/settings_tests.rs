//! Tests of [`super`]: what each argument becomes, and the line that each bad one gives.

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

fn user() -> User {
    User { uid: 1000, gid: 100, home: Some("/home/me".into()), cwd: "/work".into() }
}

fn args(extra: &[&str]) -> MountArgs {
    let line = ["forebay", "mount"].iter().chain(extra);
    match Cli::try_parse_from(line).unwrap().command {
        Command::Mount(args) => *args,
        other => panic!("{other:?}"),
    }
}

fn planned(extra: &[&str]) -> MountPlan {
    plan(&args(&[&["s3://bucket/data", "/mnt"], extra].concat()), &user()).unwrap()
}

#[test]
fn defaults_are_the_documented_ones() {
    let plan = planned(&[]);
    let s = &plan.settings;
    assert_eq!((s.memory_target, s.cache_size, s.stripe_count, s.stripe_size), (ByteCount(1 << 30), None, 0, ByteCount(MIB)));
    assert_eq!((s.deployment, s.compression, s.dedup), (Deployment::Persistent, true, true));
    assert_eq!((s.posix_metadata, s.metadata_ttl), (PosixMetadata::Free, MetadataTtl::For(Duration::from_secs(60))));
    assert_eq!((s.uid, s.gid, s.file_mode, s.dir_mode), (1000, 100, 0o755, 0o755));
    assert_eq!((plan.options.source.as_str(), plan.options.read_only), ("s3://bucket/data", false));
    assert!(s.cache_dirs[0].starts_with("/home/me/.cache/forebay"));
    assert_eq!(s.dirty_copies, 1);
    assert_eq!(plan.log, Some(s.cache_dirs[0].join("forebay.log")));
}

#[test]
fn what_comes_in_by_itself_is_named() {
    let url = "https://sqs.eu-west-1.amazonaws.com/1/q";
    assert_eq!(planned(&[]).settings.auto_import, None);
    let plan = planned(&["--read-only", "--auto-import=new, Deleted", &format!("--event-queue-url={url}")]);
    assert_eq!(plan.settings.auto_import, Some(AutoImport { new: true, changed: false, deleted: true }));
    assert_eq!(plan.settings.event_queue_url.as_deref(), Some(url));
}

#[test]
fn an_at_sign_after_the_last_slash_names_a_snapshot() {
    let of = |url: &str| plan(&args(&[url, "/mnt"]), &user()).unwrap();
    for (url, bucket, snapshot) in [
        ("s3://b/p@v1", "s3://b/p", Some("v1")),
        ("s3://b@v%201%40", "s3://b", Some("v 1@")),
        ("s3://b/p/@%ff", "s3://b/p/", Some("%FF")),
        ("s3://b/a@b/", "s3://b/a@b/", None),
        ("s3://b/a@b/c", "s3://b/a@b/c", None),
        ("file:///srv/d@v", "file:///srv/d", Some("v")),
    ] {
        let plan = of(url);
        assert_eq!((plan.settings.repository.url.as_str(), plan.settings.snapshot.as_deref()), (bucket, snapshot), "{url}");
        assert_eq!(plan.options.read_only, snapshot.is_some(), "{url}");
    }
    let plan = of("s3://b/p/@v1");
    assert_eq!((plan.options.source.as_str(), plan.settings.source().as_str()), ("s3://b/p@v1", "s3://b/p@v1"));
    let caches = ["s3://b/p", "s3://b/p@v1", "s3://b/p@v2"].map(|url| of(url).settings.cache_dirs);
    assert!(caches[0] != caches[1] && caches[1] != caches[2] && caches[0] != caches[2]);
    let error = plan_error(&["s3://b@v1", "/mnt", "--auto-export=new"]);
    assert!(error.contains("--auto-export") && error.contains("does not change"), "{error}");
}

fn plan_error(line: &[&str]) -> String {
    plan(&args(line), &user()).unwrap_err().to_string()
}

#[test]
fn two_copies_go_to_two_directories() {
    assert_eq!(planned(&["--dirty-copies=2", "--cache=/a", "--cache=/b"]).settings.dirty_copies, 2);
}

#[test]
fn values_arrive() {
    let plan = planned(&[
        "--cache=a",
        "--cache=/nvme1/./b//",
        "--cache-size=1.5T",
        "--memory-target=512M",
        "--deployment=scratch",
        "--compression=none",
        "--dedup=off",
        "--stripe-count=2",
        "--stripe-size=256K",
        "--region=eu-1",
        "--profile=p",
        "--sse=aws:kms",
        "--sse-kms-key-id=k",
        "--requester-pays",
        "--posix-metadata=eager",
        "--read-only",
        "--allow-other",
        "--uid=0",
        "--gid=5",
        "--file-mode=0640",
        "--dir-mode=2750",
        "--metadata-ttl=5m",
        "--noexec",
        "-f",
    ]);
    let s = &plan.settings;
    assert_eq!(s.cache_dirs, [PathBuf::from("/work/a"), PathBuf::from("/nvme1/b")]);
    assert_eq!((s.cache_size, s.memory_target), (Some(ByteCount(3 << 39)), ByteCount(512 * MIB)));
    assert_eq!((s.deployment, s.compression, s.dedup), (Deployment::Scratch, false, false));
    assert_eq!((s.stripe_count, s.stripe_size), (2, ByteCount(256 << 10)));
    let r = &s.repository;
    assert_eq!((r.region.as_deref(), r.profile.as_deref(), r.requester_pays), (Some("eu-1"), Some("p"), true));
    assert_eq!((r.sse.as_deref(), r.sse_kms_key_id.as_deref()), (Some("aws:kms"), Some("k")));
    assert_eq!((s.posix_metadata, s.metadata_ttl), (PosixMetadata::Eager, MetadataTtl::For(Duration::from_secs(300))));
    assert_eq!((s.uid, s.gid, s.file_mode, s.dir_mode), (0, 5, 0o640, 0o2750));
    assert!(plan.options.allow_other && plan.options.no_exec && plan.options.read_only);
    assert_eq!(plan.log, None);
}

#[test]
fn a_time_to_live_is_seconds_or_words() {
    for (text, ttl) in [
        ("0", MetadataTtl::For(Duration::ZERO)),
        ("90", MetadataTtl::For(Duration::from_secs(90))),
        ("1h 30m", MetadataTtl::For(Duration::from_secs(5400))),
        ("indefinite", MetadataTtl::Indefinite),
        ("18446744073709551615", MetadataTtl::For(MetadataTtl::Indefinite.as_duration())),
    ] {
        assert_eq!(planned(&["--metadata-ttl", text]).settings.metadata_ttl, ttl, "{text}");
    }
}

#[test]
fn path_style_is_implied_where_host_names_cannot_work() {
    for (endpoint, implied) in [
        ("http://127.0.0.1:9000", true),
        ("http://localhost:9000/", true),
        ("https://[::1]:9000", true),
        ("https://s3.example.org", false),
        ("https://10.example.org:443", false),
    ] {
        let plan = planned(&["--endpoint-url", endpoint]);
        assert_eq!(plan.settings.repository.force_path_style, implied, "{endpoint}");
    }
    assert!(planned(&["--force-path-style"]).settings.repository.force_path_style);
}

#[test]
fn the_default_cache_belongs_to_repository_and_endpoint() {
    let dir = |url: &str, extra: &[&str]| {
        plan(&args(&[&[url, "/mnt"], extra].concat()), &user()).unwrap().settings.cache_dirs[0].clone()
    };
    assert_eq!(dir("s3://bucket/a", &[]), dir("s3://bucket/a/", &[]));
    assert_ne!(dir("s3://bucket/a", &[]), dir("s3://bucket/b", &[]));
    assert_ne!(dir("s3://bucket/a", &[]), dir("s3://bucket/a", &["--endpoint-url=http://localhost:1"]));
    // Golden: a change would leave every default cache behind.
    assert_eq!(dir("s3://bucket/a", &[]).file_name().unwrap(), "2954ee0049829b53");
}

#[test]
fn without_a_home_the_cache_must_be_named() {
    let homeless = User { home: None, ..user() };
    let error = plan(&args(&["s3://b", "/mnt"]), &homeless).unwrap_err();
    assert_eq!(error.to_string(), "--cache: there is no home directory for the default; name a cache directory");
    assert!(plan(&args(&["s3://b", "/mnt", "--cache=/c"]), &homeless).is_ok());
}

#[test]
fn every_bad_value_gives_its_line() {
    const S3: &str = "s3://b";
    let table: &[(&str, &[&str], &str)] = &[
        ("bucket", &[], "repository 'bucket': has no scheme; write s3://bucket[/prefix], gs://…, az://… or file:///dir"),
        (
            "ftp://b",
            &[],
            "repository 'ftp://b': 'ftp' is not a scheme of ours; write s3://bucket[/prefix], gs://…, az://… or file:///dir",
        ),
        ("s3:///x", &[], "repository 's3:///x': names no bucket; write s3://bucket[/prefix], gs://…, az://… or file:///dir"),
        ("s3://b c", &[], "repository 's3://b c': 'b c' cannot be a bucket's name; use letters, digits, '-', '.' and '_'"),
        ("file://dir", &[], "repository 'file://dir': names no absolute directory; write file:///dir, with three slashes"),
        (
            "file:///d",
            &["--endpoint-url=http://h"],
            "--endpoint-url 'http://h': a file:// repository has no endpoint; leave it out",
        ),
        (
            S3,
            &["--endpoint-url=h:9000"],
            "--endpoint-url 'h:9000': not an http:// or https:// URL; write it as in http://127.0.0.1:9000",
        ),
        (
            S3,
            &["--endpoint-url=http://"],
            "--endpoint-url 'http://': not an http:// or https:// URL; write it as in http://127.0.0.1:9000",
        ),
        (S3, &["--region="], "--region: empty; give it a value or leave it out"),
        (
            S3,
            &["--profile=p", "--no-sign-request"],
            "--profile 'p': unsigned requests use no credentials; drop it or --no-sign-request",
        ),
        (S3, &["--sse=rot13"], "--sse 'rot13': not known; use AES256, aws:kms, aws:kms:dsse or sse-c"),
        (S3, &["--sse=sse-c"], "--sse 'sse-c': needs a key; add --sse-kms-key-id with 32 bytes in base64"),
        (
            S3,
            &["--sse=sse-c", "--sse-kms-key-id=secret"],
            "--sse-kms-key-id: not 32 bytes in base64; make one with 'openssl rand -base64 32'",
        ),
        (S3, &["--sse=AES256", "--sse-kms-key-id=k"], "--sse-kms-key-id: AES256 takes no key; drop it or use --sse aws:kms"),
        (S3, &["--sse-kms-key-id=k"], "--sse-kms-key-id: means nothing without --sse; add --sse aws:kms or --sse sse-c"),
        ("gs://b", &["--sse=AES256"], "--sse 'AES256': only s3:// repositories have it; leave it out"),
        (S3, &["--cache=/mnt/cache"], "--cache '/mnt/cache': lies in the mount point; put the cache somewhere else"),
        (S3, &["--cache=/c", "--cache=/c/."], "--cache '/c/.': given twice; name each device once"),
        (S3, &["--cache-size=lots"], "--cache-size 'lots': not a size; write a number with K, M, G or T, as in 512M or 1.5T"),
        (S3, &["--cache-size=0"], "--cache-size '0': nothing fits in it; write a number with K, M, G or T"),
        (S3, &["--memory-target=1M"], "--memory-target '1M': too little to work with; give it 256 MiB or more"),
        (S3, &["--deployment=cloud"], "--deployment 'cloud': not known; use persistent or scratch"),
        (S3, &["--dirty-copies=3"], "--dirty-copies '3': not known; use 1 or 2"),
        (S3, &["--compression=zstd"], "--compression 'zstd': not known; use lz4 or none"),
        (S3, &["--dedup=yes"], "--dedup 'yes': not known; use on or off"),
        (S3, &["--stripe-count=2"], "--stripe-count '2': there are only 1 cache directories; write 0 for all of them"),
        (S3, &["--stripe-count=-1"], "--stripe-count '-1': not a number of devices; write 0 (all) to 255"),
        (S3, &["--stripe-size=100K"], "--stripe-size '100K': not a whole number of blocks; use a multiple of 128 KiB"),
        (S3, &["--stripe-size=0"], "--stripe-size '0': nothing fits in it; write a number with K, M, G or T"),
        (S3, &["--posix-metadata=on"], "--posix-metadata 'on': not known; use free or eager or off"),
        (S3, &["--metadata-ttl=soon"], "--metadata-ttl 'soon': not a time; write seconds, 5m, 1h or indefinite"),
        (S3, &["--uid=root"], "--uid 'root': not a numeric id; write a number, as 'id' prints it"),
        (S3, &["--gid=4294967295"], "--gid '4294967295': not a numeric id; write a number, as 'id' prints it"),
        (S3, &["--file-mode=rw"], "--file-mode 'rw': not permission bits in octal; write it as in 0644"),
        (S3, &["--dir-mode=10000"], "--dir-mode '10000': not permission bits in octal; write it as in 0644"),
        (
            S3,
            &["--auto-import=newest"],
            "--auto-import: 'newest' is no event; use new, changed, deleted, separated by commas, or none",
        ),
        (
            S3,
            &["--event-queue-url=https://sqs.x.amazonaws.com/1/q"],
            "--event-queue-url 'https://sqs.x.amazonaws.com/1/q': nothing comes in by itself; add --auto-import new,changed,deleted, or leave it out",
        ),
        (
            S3,
            &["--auto-import=new", "--event-queue-url=q"],
            "--event-queue-url 'q': not the URL of a queue; write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, as the queue's details show it",
        ),
        (
            "gs://b",
            &["--auto-import=new", "--event-queue-url=https://sqs.x.amazonaws.com/1/q"],
            "--event-queue-url 'https://sqs.x.amazonaws.com/1/q': only s3:// repositories tell of changes in a queue; leave it out; the bucket is listed instead",
        ),
        (
            S3,
            &["--auto-export=newest"],
            "--auto-export: 'newest' is no event; use new, changed, deleted, separated by commas, or none",
        ),
    ];
    for (url, extra, line) in table {
        let error = plan(&args(&[&[*url, "/mnt"], *extra].concat()), &user()).map(drop).unwrap_err();
        assert_eq!(error.to_string(), *line);
    }
}
