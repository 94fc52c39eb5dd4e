//! `forebay quota` against a mount.

#[path = "support/place.rs"]
mod place;

use place::Place;
use serde_json::Value;

impl Place {
    /// `forebay quota VERB PATH ARGS`, which must succeed.
    fn quota(&self, verb: &str, path: &str, args: &[&str]) -> String {
        let path = self.mnt().join(path).display().to_string();
        let run = self.forebay(&[&["quota", verb, &path], args].concat());
        assert_eq!(run.code, Some(0), "{verb} {args:?}: {}", run.stderr);
        run.stdout
    }

    fn json(&self, verb: &str, path: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.quota(verb, path, &[args, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn limits_are_set_shown_kept_and_held() {
    let place = Place::mounted();
    std::fs::create_dir(place.mnt().join("team")).unwrap();
    assert_eq!(place.quota("set", "", &["--user", "4321", "--block-soft", "10G", "--block-hard", "12G"]), "");
    place.quota("set", "team", &["--project", "--inode-hard", "3", "--block-hard", "1M"]);
    place.quota("set", "", &["--block-grace", "3d", "--of", "user,group"]);
    // What is not given stays.
    place.quota("set", "", &["--user", "4321", "--inode-soft", "5"]);

    let user = &place.json("get", "", &["--user", "4321"])[0];
    assert_eq!((&user["bytes"]["soft"], &user["bytes"]["hard"]), (&(10_u64 << 30).into(), &(12_u64 << 30).into()));
    assert_eq!((&user["inodes"]["soft"], &user["bytes"]["used"]), (&5.into(), &0.into()));
    std::fs::write(place.mnt().join("team/a"), [1; 5000]).unwrap();
    std::fs::write(place.mnt().join("team/b"), "").unwrap();
    let refused = std::fs::write(place.mnt().join("team/c"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EDQUOT));
    let project = &place.json("get", "team/a", &["--project"])[0];
    assert_eq!(
        (&project["path"], &project["inodes"]["used"], &project["bytes"]["used"]),
        (&"team".into(), &3.into(), &8192.into())
    );

    // Without anybody named: the caller's own, and the project's.
    let own = place.json("get", "team/a", &[]);
    let kinds: Vec<_> = own.as_array().unwrap().iter().map(|quota| quota["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["user", "group", "project"]);
    assert_eq!(place.json("get", "", &[]).as_array().unwrap().len(), 2, "the root is in no project");

    let mnt = place.mnt().display().to_string();
    assert_eq!(place.forebay(&["umount", &mnt]).code, Some(0));
    place.mount();
    let report = place.json("report", "", &[]);
    assert_eq!(report["counting"], false);
    let graces: Vec<_> =
        report["graces"].as_array().unwrap().iter().map(|grace| grace["bytes_seconds"].as_u64().unwrap()).collect();
    assert_eq!(graces, [3 * 86_400, 3 * 86_400, 7 * 86_400]);
    let text = place.quota("report", "", &["--of", "project"]);
    let line = text.lines().find(|line| line.starts_with("project")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["project", "/team", "8", "KiB", "-", "1", "MiB", "-", "3", "-", "3", "-"], "{text}");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let place = Place::mounted();
    std::fs::write(place.mnt().join("file"), "").unwrap();
    let mnt = place.mnt().display().to_string();
    let file = place.mnt().join("file").display().to_string();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["set", &mnt, "--user", "1"], 2, "nothing to set"),
        (&["set", &mnt, "--block-hard", "1G"], 2, "--user, --group or --project"),
        (&["set", &mnt, "--user", "1", "--block-hard", "much"], 2, "--block-hard: 'much' is not a size"),
        (&["set", &mnt, "--block-grace", "soon"], 2, "--block-grace: 'soon' is not a time"),
        (&["report", &mnt, "--of", "nobody"], 2, "'nobody' is no kind of quota"),
        (&["get", &mnt, "--user", "no such user"], 1, "user 'no such user' is not known"),
        (&["get", &mnt, "--project"], 1, "is in no project"),
        (&["set", &file, "--project", "--inode-hard", "1"], 1, "not a directory"),
    ];
    for (args, code, words) in cases {
        let run = place.forebay(&[&["quota"], args].concat());
        assert_eq!((run.code, run.stderr.lines().count()), (Some(code), 1), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
    }
    let run = place.forebay(&["quota", "report", "/"]);
    assert!(run.code == Some(1) && run.stderr.contains("not in a forebay mount"), "{}", run.stderr);
}
