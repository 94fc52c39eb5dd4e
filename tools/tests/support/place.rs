//! A server with a bucket, and a mount of it by the program; taken down at the end, also of a failing test.

use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Server};
use std::path::PathBuf;
use std::process::{Command, Output};

/// A server, and a mount of its bucket.
pub struct Place {
    pub server: Server,
    home: tempfile::TempDir,
}

/// What a command came to.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn mounted() -> Self {
        let place = Self::new();
        place.mount();
        place
    }

    /// With nothing mounted yet.
    pub fn new() -> Self {
        let config = LoopbackConfig { buckets: vec!["bucket".into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start_blocking(config, 1).expect("a server");
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("mnt")).expect("a mount point");
        Place { server, home }
    }

    /// Mounts, again after an unmount.
    pub fn mount(&self) {
        self.mount_with(&["cache"], &[]);
    }

    /// The same with these cache directories and further options.
    pub fn mount_with(&self, caches: &[&str], options: &[&str]) {
        let (mnt, endpoint) = (self.path(""), self.server.endpoint_url());
        let caches: Vec<String> = caches.iter().map(|name| self.cache(name).display().to_string()).collect();
        let caches: Vec<&str> = caches.iter().flat_map(|cache| ["--cache", cache]).collect();
        let local = ["mount", "s3://bucket", &mnt, "--cache-size", "256M"];
        let remote = ["--region", "us-east-1", "--endpoint-url", &endpoint, "--force-path-style"];
        self.ok(&[&local[..], &caches, options, &remote].concat());
    }

    /// A cache directory.
    pub fn cache(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn mnt(&self) -> PathBuf {
        self.home.path().canonicalize().expect("a directory").join("mnt")
    }

    /// A path in the mount, as text.
    pub fn path(&self, name: &str) -> String {
        self.mnt().join(name).display().to_string().trim_end_matches('/').to_owned()
    }

    /// Runs `forebay`.
    pub fn forebay(&self, args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let keys = self.server.credentials();
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.env("AWS_ACCESS_KEY_ID", &keys.access_key).env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        let Output { status, stdout, stderr } = command.args(args).output().expect("runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs `forebay`, which must succeed; what it prints.
    pub fn ok(&self, args: &[&str]) -> String {
        let run = self.forebay(args);
        assert_eq!(run.code, Some(0), "{args:?}: {}{}", run.stdout, run.stderr);
        run.stdout
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.forebay(&["umount", "--discard", &self.path("")]).code != Some(0) {
            let _ = forebay_fuse::Unmounter::new(self.mnt()).detach();
        }
    }
}
