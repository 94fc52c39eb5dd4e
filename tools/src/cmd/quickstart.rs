//! `forebay quickstart`: everything embedded on this machine. An S3 server inside the process with a generated data set, a
//! mount of it, a cold and a warm read; then the mount stays for the person to look at until Ctrl-C, and everything is
//! cleaned up.

use crate::cli::{Cli, Command, QuickstartArgs};
use crate::error::CliError;
use crate::logging::{self, Sink};
use crate::places;
use crate::serve::Serving;
use crate::settings;
use clap::Parser;
use forebay_daemon::engine::FileSystem;
use forebay_daemon::units::ByteCount;
use forebay_loopback_s3::sample::{SampleSpec, populate};
use forebay_loopback_s3::{EtagKind, LoopbackConfig, LoopbackS3};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BUCKET: &str = "sample-data";
/// What one `read` of the demonstration asks for, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Bytes of the cache: more than the sample data, less than anybody would miss.
const CACHE_SIZE: &str = "1G";

pub(super) fn run(_args: &QuickstartArgs) -> Result<(), CliError> {
    logging::start(Sink::Stderr, false);
    let home = tempfile::Builder::new().prefix("forebay-quickstart-").tempdir().map_err(CliError::failed)?;
    let mountpoint = home.path().join("data");
    std::fs::create_dir(&mountpoint).map_err(CliError::failed)?;

    let config = LoopbackConfig { buckets: vec![BUCKET.into()], etags: EtagKind::Opaque, ..LoopbackConfig::default() };
    let server = LoopbackS3::start_blocking(config, 2).map_err(CliError::failed)?;
    let sample = populate(&server.bucket(BUCKET), "", &SampleSpec::default());
    println!(
        "S3 server    {} with {} objects, {} in bucket '{BUCKET}'",
        server.endpoint_url(),
        sample.objects,
        ByteCount(sample.bytes)
    );

    let serving = Serving::start(plan(home.path(), &mountpoint, &server.endpoint_url())?)?;
    println!("mounted      s3://{BUCKET} at {}", mountpoint.display());
    // The tour runs beside the mount's own loop, which answers Ctrl-C at any moment of it.
    let guide = Guide { filesystem: Arc::clone(serving.filesystem()), root: mountpoint };
    let tour = std::thread::spawn(move || guide.tour());
    let served = serving.until_the_end();
    let toured = tour.join().unwrap_or(Ok(()));
    server.shutdown();
    println!("unmounted    the server is stopped and {} removed", home.path().display());
    home.close().map_err(CliError::failed)?;
    match toured {
        // Ctrl-C in the middle of the tour takes the files away under it: that is no failure.
        Err(error) if served.is_ok() && error.raw_os_error().is_none() => Err(CliError::failed(error)),
        _ => served,
    }
}

fn plan(home: &Path, mountpoint: &Path, endpoint: &str) -> Result<settings::MountPlan, CliError> {
    let (cache, mountpoint) = (home.join("cache").display().to_string(), mountpoint.display().to_string());
    let url = format!("s3://{BUCKET}");
    let words =
        ["forebay", "mount", &url, &mountpoint, "--cache", &cache, "--cache-size", CACHE_SIZE, "--endpoint-url", endpoint];
    let cli = Cli::try_parse_from(words.into_iter().chain(["--no-sign-request", "--read-only"]));
    let Ok(Cli { command: Command::Mount(args), .. }) = cli else { unreachable!("a fixed, valid command line") };
    settings::plan(&args, &places::user()?).map_err(CliError::failed)
}

struct Guide {
    filesystem: Arc<FileSystem>,
    root: PathBuf,
}

impl Guide {
    fn tour(&self) -> io::Result<()> {
        let started = Instant::now();
        let files = files_below(&self.root)?;
        println!("listed       {} files in {:.0} ms", files.len(), started.elapsed().as_secs_f64() * 1e3);
        self.read_all("cold read", &files)?;
        self.filesystem.flush();
        for file in &files {
            // Without the kernel's pages the next read shows Forebay's cache, not the page cache.
            rustix::fs::fadvise(File::open(file)?, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        self.read_all("warm read", &files)?;
        let status = self.filesystem.status();
        println!(
            "cache        {} of data in {} on disk; {} GETs and {} LISTs so far",
            ByteCount(status.cache.plain_bytes),
            ByteCount(status.cache.stored_bytes),
            status.requests.get,
            status.requests.list
        );
        println!("\nLook around: ls -lR {}\n             forebay status\nCtrl-C unmounts and cleans up.", self.root.display());
        Ok(())
    }

    fn read_all(&self, what: &str, files: &[PathBuf]) -> io::Result<()> {
        let before = self.filesystem.status();
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{msg}").expect("a fixed template"));
        bar.set_message(format!("{what} …"));
        bar.enable_steady_tick(Duration::from_millis(200));
        let started = Instant::now();
        let mut buffer = vec![0; READ_BYTES];
        let mut bytes = 0;
        for file in files {
            // The cold read shows which object is a symbolic link: its target is read under its own name.
            if file.symlink_metadata()?.is_file() {
                bytes += read_whole(file, &mut buffer)?;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let after = self.filesystem.status();
        println!(
            "{what:12} {} in {:.2} s: {}/s, {} fetched from S3",
            ByteCount(bytes),
            seconds,
            ByteCount((bytes as f64 / seconds) as u64),
            ByteCount(after.fetched_bytes - before.fetched_bytes)
        );
        Ok(())
    }
}

fn read_whole(path: &Path, buffer: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut bytes = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}

fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
