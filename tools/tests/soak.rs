//! A million files known and a million blocks cached, or a million files written and the daemon killed: how much memory it takes,
//! and how long the next mount. Takes about ten minutes and 6 GiB of disk each, so they run only when asked for:
//! `cargo test --release -p forebay --test soak -- --ignored --nocapture`

mod support;

use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Server, Texture};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const DIRECTORIES: u64 = 1000;
const FILES: u64 = 1000;
/// One block each, small enough that a million fit on any disk.
const BYTES: u64 = 4096;
/// What the daemon may have resident.
const RESIDENT_LIMIT: u64 = 512 << 20;

struct Daemon {
    mnt: PathBuf,
}

impl Daemon {
    fn mount(server: &Server, home: &Path, access: &[&str]) -> (Daemon, f64) {
        let mnt = home.canonicalize().unwrap().join("mnt");
        let keys = server.credentials();
        let started = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["mount", "s3://million"])
            .arg(&mnt)
            .arg("--cache")
            .arg(home.join("cache"))
            .args([
                "--cache-size",
                "8G",
                "--memory-target",
                "512M",
                "--region",
                "us-east-1",
                "--force-path-style",
                "--endpoint-url",
            ])
            .arg(server.endpoint_url())
            .args(access)
            .env("AWS_ACCESS_KEY_ID", &keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret_key)
            .status()
            .unwrap();
        assert!(status.success());
        (Daemon { mnt }, started.elapsed().as_secs_f64())
    }

    fn status(&self) -> serde_json::Value {
        support::status(Command::new(env!("CARGO_BIN_EXE_forebay")).args(["status", "--json"]).arg(&self.mnt))
    }

    fn kill(self) {
        let pid = self.status()["pid"].as_u64().unwrap();
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        forebay_fuse::Unmounter::new(&self.mnt).detach().unwrap();
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The most it ever had resident, in bytes.
    fn tell(&self, when: &str) -> u64 {
        let status = self.status();
        let resident = status["memory_bytes"].as_u64().unwrap();
        let peak = support::peak_resident(&status);
        let (blocks, index) = (&status["cache"]["blocks"], &status["cache"]["index_bytes"]);
        println!(
            "{when}: {} MiB resident, at most {} MiB, {blocks} blocks in the index of {index} bytes",
            resident >> 20,
            peak >> 20
        );
        peak
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let done = Command::new(env!("CARGO_BIN_EXE_forebay")).arg("umount").arg(&self.mnt).status();
        if !done.is_ok_and(|status| status.success()) {
            let _ = forebay_fuse::Unmounter::new(&self.mnt).detach();
        }
    }
}

fn read_all(mnt: &Path) {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for reader in 0..8 {
            scope.spawn(move || {
                for directory in (reader..DIRECTORIES).step_by(8) {
                    let mut names: Vec<_> = std::fs::read_dir(mnt.join(format!("{directory:04}")))
                        .unwrap()
                        .map(|entry| entry.unwrap().path())
                        .collect();
                    names.sort();
                    assert_eq!(names.len() as u64, FILES);
                    for name in names {
                        assert_eq!(std::fs::read(&name).unwrap().len() as u64, BYTES, "{}", name.display());
                    }
                }
            });
        }
    });
    println!("{} files read in {:.1} s", DIRECTORIES * FILES, started.elapsed().as_secs_f64());
}

#[test]
#[ignore = "ten minutes and 6 GiB of disk"]
fn a_million_files_and_blocks_fit_into_half_a_gibibyte() {
    let config = LoopbackConfig { buckets: vec!["million".into()], ..LoopbackConfig::default() };
    let server = LoopbackS3::start_blocking(config, 2).unwrap();
    let bucket = server.bucket("million");
    for directory in 0..DIRECTORIES {
        for file in 0..FILES {
            let seed = directory * FILES + file;
            bucket.put_synthetic(&format!("{directory:04}/{file:04}"), seed, BYTES, Texture::Noise);
        }
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("mnt")).unwrap();
    {
        let (daemon, seconds) = Daemon::mount(&server, home.path(), &["--read-only"]);
        println!("fresh mount of {} objects: {seconds:.3} s", DIRECTORIES * FILES);
        read_all(&daemon.mnt);
        let peak = daemon.tell("after the first read");
        assert!(peak <= RESIDENT_LIMIT, "{} MiB", peak >> 20);
    }
    let (daemon, seconds) = Daemon::mount(&server, home.path(), &["--read-only"]);
    println!("mount with a full cache: {seconds:.3} s");
    daemon.tell("after the mount");
    assert!(daemon.status()["cache"]["blocks"].as_u64().unwrap() >= DIRECTORIES * FILES * 99 / 100);
    read_all(&daemon.mnt);
    let peak = daemon.tell("after the second read");
    assert!(peak <= RESIDENT_LIMIT, "{} MiB", peak >> 20);
}

/// How long the mount after a kill may take, in seconds.
const RECOVERY_LIMIT: f64 = 2.0;

/// Every file's content is its own.
fn content(directory: u64, file: u64) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    for (word, bytes) in bytes.chunks_mut(8).enumerate() {
        bytes
            .copy_from_slice(&((directory << 40) | (file << 20) | word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}

fn write_all(mnt: &Path) {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for directory in (writer..DIRECTORIES).step_by(4) {
                    let dir = mnt.join(format!("{directory:04}"));
                    std::fs::create_dir(&dir).unwrap();
                    for file in 0..FILES {
                        std::fs::write(dir.join(format!("{file:04}")), content(directory, file)).unwrap();
                    }
                }
            });
        }
    });
    println!("{} files written in {:.1} s", DIRECTORIES * FILES, started.elapsed().as_secs_f64());
}

#[test]
#[ignore = "ten minutes and 6 GiB of disk"]
fn a_million_written_files_are_back_two_seconds_after_kill_9() {
    let config = LoopbackConfig { buckets: vec!["million".into()], ..LoopbackConfig::default() };
    let server = LoopbackS3::start_blocking(config, 2).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("mnt")).unwrap();
    let (daemon, _) = Daemon::mount(&server, home.path(), &[]);
    write_all(&daemon.mnt);
    // The last of them are synced together with all names before.
    for directory in 0..DIRECTORIES {
        std::fs::File::open(daemon.mnt.join(format!("{directory:04}/{:04}", FILES - 1))).unwrap().sync_all().unwrap();
    }
    // What is older than a group commit is durable anyway.
    std::thread::sleep(std::time::Duration::from_secs(3));
    daemon.tell("after writing");
    let mnt = daemon.mnt.clone();
    daemon.kill();
    let (daemon, seconds) = Daemon::mount(&server, home.path(), &[]);
    println!("mount after kill -9: {seconds:.3} s");
    daemon.tell("after the mount");
    for directory in 0..DIRECTORIES {
        let file = directory * 7919 % FILES;
        let read = std::fs::read(mnt.join(format!("{directory:04}/{file:04}"))).unwrap();
        assert!(read == content(directory, file), "{directory}/{file}");
    }
    assert!(seconds <= RECOVERY_LIMIT, "{seconds} s");
}
