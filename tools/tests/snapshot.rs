//! `forebay snapshot` against a mount.

#[path = "support/place.rs"]
mod place;

use place::Place;
use serde_json::Value;

fn snapshot_at(place: &Place, args: &[&str]) -> place::Run {
    place.forebay(&[&["snapshot"], args].concat())
}

#[test]
fn snapshots_are_taken_listed_shown_browsed_and_deleted() {
    let place = Place::mounted();
    let mount = place.path("");
    let snapshot = |args: &[&str]| place.forebay(&[&["snapshot"], args, &["--mount", &mount]].concat());
    assert!(snapshot(&["list"]).stdout.contains("there are no snapshots"));
    std::fs::create_dir(place.mnt().join("data")).expect("makes");
    std::fs::write(place.mnt().join("data/file"), "then").expect("writes");
    let run = snapshot(&["create", "first one"]);
    assert_eq!((run.code, run.stdout.starts_with("first one  of /, taken 20")), (Some(0), true), "{}{}", run.stdout, run.stderr);
    std::fs::write(place.mnt().join("data/file"), "now").expect("writes");
    let taken: Value =
        serde_json::from_str(&place.ok(&["snapshot", "create", "part", "--path", &place.path("data"), "--json"])).expect("JSON");
    assert_eq!((&taken["name"], &taken["path"]), (&"part".into(), &"/data".into()));
    let seen = |path: &str| std::fs::read_to_string(place.mnt().join(".snapshots").join(path)).expect("reads");
    assert_eq!((seen("first one/data/file").as_str(), seen("part/file").as_str()), ("then", "now"));
    let all: Value = serde_json::from_str(&snapshot(&["list", "--json"]).stdout).expect("JSON");
    let names: Vec<_> = all.as_array().expect("a list").iter().map(|info| info["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["first one", "part"]);
    let listed = snapshot(&["list"]).stdout;
    assert!(listed.lines().count() == 3 && listed.contains("/data"), "{listed}");
    assert!(snapshot(&["show", "part"]).stdout.contains("of /data"));

    // What cannot be done is one line that names it.
    for (args, says) in [
        (&["create", "part"][..], "there is a snapshot 'part' already"),
        (&["create", "a/b"], "a snapshot's name is that of a directory"),
        (&["show", "none"], "there is no snapshot 'none'"),
        (&["delete", "none"], "there is no snapshot 'none'"),
    ] {
        let run = snapshot(args);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }

    // A copy to work in, and the directory as it was.
    let clone = place.path("copy of part");
    assert!(snapshot_at(&place, &["clone", "part", &clone]).stdout.contains("is a copy of snapshot part"));
    std::fs::write(place.mnt().join("copy of part/file"), "in the copy").expect("writes");
    let json: Value =
        serde_json::from_str(&place.ok(&["snapshot", "clone", "part", &place.path("data/inside"), "--json"])).expect("JSON");
    assert_eq!((&json["clone"], &json["snapshot"]["name"]), (&"/data/inside".into(), &"part".into()));
    let run = snapshot_at(&place, &["clone", "part", &clone]);
    assert_eq!((run.code, run.stderr.contains("exists already")), (Some(1), true), "{}", run.stderr);
    let run = snapshot_at(&place, &["clone", "none", &place.path("x")]);
    assert_eq!((run.code, run.stderr.contains("there is no snapshot 'none'")), (Some(1), true), "{}", run.stderr);
    std::fs::write(place.mnt().join("data/file"), "spoilt").expect("writes");
    let restored: Value = serde_json::from_str(&snapshot(&["restore", "part", "--json"]).stdout).expect("JSON");
    assert_eq!((&restored["contents"], &restored["removed"]), (&1.into(), &1.into()), "{restored}");
    let now = |path: &str| std::fs::read_to_string(place.mnt().join(path)).expect("reads");
    assert_eq!((now("data/file").as_str(), now("copy of part/file").as_str()), ("now", "in the copy"));
    assert!(!place.mnt().join("data/inside").exists());
    assert_eq!(snapshot(&["restore", "none"]).code, Some(1));

    place.ok(&["umount", &mount]);
    place.mount();
    assert_eq!(seen("first one/data/file"), "then", "also after a restart");
    assert!(snapshot(&["delete", "first one"]).stdout.starts_with("first one is deleted"));
    assert!(!place.mnt().join(".snapshots/first one").exists());
    assert_eq!(seen("part/file"), "now");
}

#[test]
fn differences_and_digests_are_shown_and_checked() {
    let place = Place::mounted();
    let mount = place.path("");
    let snapshot = |args: &[&str]| place.forebay(&[&["snapshot"], args, &["--mount", &mount]].concat());
    let file = |name: &str| place.mnt().join(name);
    std::fs::create_dir(file("data")).expect("makes");
    std::fs::write(file("data/a"), "a").expect("writes");
    std::fs::write(file("data/b"), "b").expect("writes");
    for (name, mode) in [("data", 0o755), ("data/a", 0o644), ("data/b", 0o644)] {
        std::fs::set_permissions(file(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("sets");
    }
    snapshot(&["create", "one"]);
    assert_eq!(snapshot(&["diff", "one"]).stdout, "");
    std::fs::write(file("data/a"), "changed").expect("writes");
    std::fs::rename(file("data/b"), file("data/c")).expect("renames");
    std::fs::create_dir(file("data/new\n")).expect("makes");
    let lines = "M data/a\nR data/b -> data/c\n+ data/new%0A/\n";
    let run = snapshot(&["diff", "one"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), lines), "{}", run.stderr);
    snapshot(&["create", "two"]);
    std::fs::remove_file(file("data/c")).expect("removes");
    assert_eq!(snapshot(&["diff", "one", "two"]).stdout, lines);
    assert_eq!(snapshot(&["diff", "two", "one"]).stdout, "M data/a\nR data/c -> data/b\n- data/new%0A/\n");
    let json = snapshot(&["diff", "one", "two", "--json"]).stdout;
    let entries: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let renamed = serde_json::json!({ "change": "renamed", "kind": "file", "path": "data/c", "from": "data/b" });
    assert_eq!((entries.len(), &entries[1]), (3, &renamed));

    // By the definition, with nothing of ours.
    let root = {
        let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let dir = |entries: &[(&str, &str, &str, [u8; 32])]| {
            let mut bytes = b"forebay tree 1\n".to_vec();
            for (kind, mode, name, digest) in entries {
                let mode = u16::from_str_radix(mode, 8).expect("octal");
                bytes.extend(kind.bytes());
                bytes.extend(mode.to_be_bytes());
                bytes.extend((name.len() as u16).to_be_bytes());
                bytes.extend(name.bytes());
                bytes.extend(digest);
            }
            hash(&bytes)
        };
        let data = dir(&[("f", "644", "a", hash(b"a")), ("f", "644", "b", hash(b"b"))]);
        format!("b3:{}", blake3::Hash::from_bytes(dir(&[("d", "755", "data", data)])))
    };
    assert_eq!(snapshot(&["digest", "one"]).stdout.trim(), root);
    let run = snapshot(&["digest", "one", "--check", &root]);
    assert_eq!((run.code, run.stdout.trim()), (Some(0), root.as_str()));
    let shown: Value = serde_json::from_str(&snapshot(&["digest", "one", "--json"]).stdout).expect("JSON");
    assert_eq!((&shown["digest"], &shown["entries"], &shown["bytes"]), (&root.clone().into(), &3.into(), &2.into()));
    let of_copy = place.ok(&["snapshot", "digest", "--directory", &place.path(".snapshots/one"), "--check", &root]);
    assert_eq!(of_copy.trim(), root, "of any directory");
    let other = snapshot(&["digest", "two"]).stdout.trim().to_owned();
    let wrong = snapshot(&["digest", "two", "--check", &root]);
    assert_eq!((wrong.code, wrong.stdout.as_str(), wrong.stderr.lines().count()), (Some(1), "", 1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains(&root) && wrong.stderr.contains(&other) && other.starts_with("b3:"), "{}", wrong.stderr);

    for (args, code, says) in [
        (&["diff", "none"][..], 1, "there is no snapshot 'none'"),
        (&["diff", "one", "none"], 1, "there is no snapshot 'none'"),
        (&["digest", "none"], 1, "there is no snapshot 'none'"),
        (&["digest", "one", "--check", "sha256:00"], 2, "a digest is 'b3:' and 64 hexadecimal digits"),
    ] {
        let run = snapshot(args);
        assert_eq!((run.code, run.stderr.lines().count(), run.stdout.as_str()), (Some(code), 1, ""), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}

#[test]
fn a_snapshot_is_exported_and_mounted_elsewhere() {
    let place = Place::mounted();
    let mount = place.path("");
    std::fs::create_dir(place.mnt().join("data")).expect("makes");
    std::fs::write(place.mnt().join("data/file"), "then").expect("writes");
    place.ok(&["snapshot", "create", "v 1@x", "--path", &place.path("data")]);
    std::fs::write(place.mnt().join("data/file"), "now").expect("writes");
    let export = |more: &[&str]| {
        place.forebay(&[&["snapshot", "export", "v 1@x", "s3://bucket/published/", "--mount", &mount], more].concat())
    };
    let run = export(&[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("2 names, 1 objects sent") && run.stdout.contains("published@v 1%40x DIR"), "{}", run.stdout);
    let again: Value = serde_json::from_str(&export(&["--json"]).stdout).expect("JSON");
    assert_eq!((&again["state"], &again["already"]), (&"SUCCEEDED".into(), &true.into()), "{again}");
    let run = export(&["--copy"]);
    assert_eq!((run.code, run.stderr.contains("has another snapshot 'v 1@x'")), (Some(1), true), "{}", run.stderr);
    let run = place.forebay(&["snapshot", "export", "none", "s3://bucket", "--mount", &mount]);
    assert_eq!((run.code, run.stderr.contains("there is no snapshot 'none'")), (Some(1), true), "{}", run.stderr);

    let home = tempfile::tempdir().expect("a directory");
    let (there, cache) = (home.path().join("mnt"), home.path().join("cache"));
    std::fs::create_dir(&there).expect("a mount point");
    let (there_text, cache) = (there.display().to_string(), cache.display().to_string());
    let endpoint = place.server.endpoint_url();
    let mounted = |what: &str, more: &[&str]| {
        let local = ["mount", what, &there_text, "--cache", &cache, "--cache-size", "256M"];
        let remote = ["--region", "us-east-1", "--endpoint-url", &endpoint, "--force-path-style"];
        place.forebay(&[&local[..], &remote, more].concat())
    };
    for (what, more, code, says) in [
        ("s3://bucket/published@v2", &[][..], 1, "there is no exported snapshot 'v2' at s3://bucket/published"),
        ("s3://bucket/published@v 1%40x", &["--auto-import", "new"], 2, "a snapshot, which does not change"),
    ] {
        let run = mounted(what, more);
        assert_eq!((run.code, run.stderr.contains(says)), (Some(code), true), "{what}: {}", run.stderr);
    }
    let run = mounted("s3://bucket/published@v 1%40x", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let _unmounted = Unmounted(&place, &there_text);
    assert_eq!(std::fs::read_to_string(there.join("file")).expect("reads"), "then");
    let refused = std::fs::write(there.join("file"), "no").expect_err("is refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let run = place.forebay(&["dra", "create", &format!("{there_text}/new"), "s3://bucket/other"]);
    assert_eq!((run.code, run.stderr.contains("an exported snapshot is mounted")), (Some(1), true), "{}", run.stderr);
    let status: Value = serde_json::from_str(&place.ok(&["status", &there_text, "--json"])).expect("JSON");
    assert!(status.to_string().contains("s3://bucket/published@v 1@x"), "{status}");
    place.ok(&["umount", &there_text]);
    assert_eq!(mounted("s3://bucket/published@v%201%40x", &[]).code, Some(0), "another spelling of the same name");
    assert_eq!(std::fs::read_to_string(there.join("file")).expect("reads"), "then");
}

/// Takes a mount down at the end.
struct Unmounted<'a>(&'a Place, &'a str);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        if self.0.forebay(&["umount", "--discard", self.1]).code != Some(0) {
            let _ = forebay_fuse::Unmounter::new(self.1).detach();
        }
    }
}
