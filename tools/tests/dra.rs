//! `forebay dra` against a mount of no bucket.

use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Server};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A server with two buckets, and a mount of none of them, taken down at the end.
struct Place {
    server: Server,
    home: tempfile::TempDir,
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let config = LoopbackConfig { buckets: vec!["one".into(), "two".into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start_blocking(config, 1).unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("mnt")).unwrap();
        let place = Place { server, home };
        place.mount("none", &[]);
        place
    }

    fn mount(&self, repository: &str, further: &[&str]) -> Run {
        let cache = self.home.path().join("cache").display().to_string();
        let mnt = self.path("");
        let run = self.forebay(&[&["mount", repository, &mnt, "--cache", &cache, "--cache-size", "256M"], further].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run
    }

    fn umount(&self) {
        let run = self.forebay(&["umount", &self.path("")]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }

    fn path(&self, name: &str) -> String {
        let mnt: PathBuf = self.home.path().canonicalize().unwrap().join("mnt");
        mnt.join(name).display().to_string().trim_end_matches('/').to_owned()
    }

    fn forebay(&self, args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let keys = self.server.credentials();
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.env("AWS_ACCESS_KEY_ID", &keys.access_key).env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        let Output { status, stdout, stderr } = command.args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn create(&self, dir: &str, url: &str, further: &[&str]) -> Run {
        let (path, endpoint) = (self.path(dir), self.server.endpoint_url());
        self.forebay(&[&["dra", "create", &path, url, "--region", "us-east-1", "--endpoint-url", &endpoint], further].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        let run = self.forebay(&[args, &["--json"]].concat());
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-f", "-l", &self.path("")]).output();
    }
}

#[test]
fn associations_are_made_shown_changed_and_deleted() {
    let place = Place::new();
    place.server.bucket("one").put("p/x", "content", []);
    let made = place.create("a/b", "s3://one/p", &["--auto-export", "new,deleted", "--on-conflict", "skip"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("dra-1  /a/b  s3://one/p") && made.stdout.contains("AVAILABLE"), "{}", made.stdout);
    assert_eq!(std::fs::read(place.path("a/b/x")).unwrap(), b"content");
    let mnt = place.path("");
    let list = place.json(&["dra", "list", "--mount", &mnt]);
    assert_eq!((list[0]["path"].as_str(), list[0]["lifecycle"].as_str()), (Some("/a/b"), Some("AVAILABLE")));
    assert_eq!(
        (list[0]["auto_export"].clone(), list[0]["on_conflict"].as_str()),
        (serde_json::json!(["NEW", "DELETED"]), Some("skip"))
    );
    let imported = place.forebay(&["import", "s3://one/p"]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let changed = place.json(&["dra", "update", &place.path("a/b"), "--auto-export", "none", "--on-conflict", "fail"]);
    assert_eq!(changed["auto_export"], serde_json::json!([]));
    assert_eq!(place.json(&["status", &mnt])[0]["associations"][0]["url"], "s3://one/p");

    place.umount();
    place.mount("none", &[]);
    assert_eq!(place.json(&["dra", "show", &place.path("a/b")])["on_conflict"], "fail");
    let deleted = place.forebay(&["dra", "delete", &place.path("a/b")]);
    assert_eq!((deleted.code, deleted.stdout.contains("dra-1 is deleted")), (Some(0), true), "{}", deleted.stderr);
    place.server.bucket("one").delete("p/x");
    assert_eq!(std::fs::read(place.path("a/b/x")).unwrap(), b"content");
    assert_eq!(place.json(&["dra", "list", "--mount", &mnt]), serde_json::json!([]));
    place.umount();
}

#[test]
fn what_cannot_be_linked_is_refused_in_one_line() {
    let place = Place::new();
    assert_eq!(place.create("a", "s3://one", &[]).code, Some(0));
    for (dir, url, further, code, why) in [
        ("a/b", "s3://two", &[][..], 1, "overlaps with '/a'"),
        ("b", "s3://one/p", &[], 1, "overlaps with s3://one"),
        ("b", "s3://absent", &[], 1, "does not exist"),
        ("b", "one", &[], 2, "has no scheme"),
        ("b", "s3://two", &["--auto-export", "old"], 2, "'old' is no event"),
        (
            "b",
            "s3://two",
            &["--sse", "sse-c", "--sse-kms-key-id", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
            2,
            "is remembered",
        ),
    ] {
        let run = place.create(dir, url, further);
        assert_eq!(run.code, Some(code), "{url} {further:?}: {}", run.stderr);
        assert!(run.stderr.contains(why) && run.stderr.trim_end().lines().count() == 1, "{url}: {}", run.stderr);
    }
    assert!(!std::path::Path::new(&place.path("b")).exists());
    let nothing = place.forebay(&["dra", "update", &place.path("a")]);
    assert_eq!((nothing.code, nothing.stderr.contains("nothing to change")), (Some(2), true));
    let none = place.forebay(&["dra", "show", &place.path("")]);
    assert_eq!((none.code, none.stderr.contains("is not the directory of an association")), (Some(1), true), "{}", none.stderr);
    place.umount();
}

#[test]
fn the_roots_association_is_the_mounts_and_remembers_what_it_was_told() {
    let place = Place::new();
    place.umount();
    std::fs::remove_dir_all(place.home.path().join("cache")).unwrap();
    let endpoint = place.server.endpoint_url();
    let reached = ["--region", "us-east-1", "--endpoint-url", &endpoint];
    place.mount("s3://one", &[&reached[..], &["--auto-export", "new"]].concat());
    let root = place.path("");
    assert_eq!(place.json(&["dra", "show", &root])["auto_export"], serde_json::json!(["NEW"]));
    place.json(&["dra", "update", &root, "--auto-export", "changed"]);
    place.umount();
    place.mount("s3://one", &reached);
    assert_eq!(place.json(&["dra", "show", &root])["auto_export"], serde_json::json!(["CHANGED"]));
    std::fs::write(place.path("kept"), "here").unwrap();
    let deleted = place.forebay(&["dra", "delete", &root]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert_eq!(place.create("d", "s3://two", &[]).code, Some(0), "now there is room for others");
    place.umount();
    let cache = place.home.path().join("cache").display().to_string();
    let refused = place.forebay(&[&["mount", "s3://one", &root, "--cache", &cache], &reached[..]].concat());
    assert_eq!((refused.code, refused.stderr.contains("has a root without a bucket")), (Some(1), true), "{}", refused.stderr);
    place.mount("none", &[]);
    assert_eq!(std::fs::read(place.path("kept")).unwrap(), b"here");
    place.umount();
}
