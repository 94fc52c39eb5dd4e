//! `forebay hsm …`, `forebay release` and `forebay preload` on a running daemon.

#[path = "support/place.rs"]
mod place;

use place::Place;
use serde_json::Value;

impl Place {
    /// The one line of a command that fails.
    fn refused(&self, args: &[&str], code: i32) -> String {
        let run = self.forebay(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}{}", run.stdout, run.stderr);
        run.stderr
    }

    fn state(&self, name: &str) -> String {
        let (path, line) = (self.path(name), self.ok(&["hsm", "state", &self.path(name)]));
        line.trim_end().strip_prefix(&format!("{path}: ")).unwrap_or_else(|| panic!("{line}")).to_owned()
    }
}

#[test]
fn states_are_shown_as_lfs_shows_them_and_the_verbs_change_them() {
    let place = Place::mounted();
    place.server.bucket("bucket").put("d/f", "content", []);
    assert_eq!(place.state("d/f"), "(0x0000000d) released exists archived, archive_id:1");
    place.ok(&["hsm", "restore", "--wait", &place.path("d/f")]);
    assert_eq!(place.state("d/f"), "(0x00000009) exists archived, archive_id:1");
    assert_eq!(place.ok(&["hsm", "action", &place.path("d/f")]), format!("{}: NOOP\n", place.path("d/f")));
    place.ok(&["hsm", "release", "--wait", &place.path("d/f")]);
    assert_eq!(place.state("d/f"), "(0x0000000d) released exists archived, archive_id:1");
    std::fs::write(place.mnt().join("d/new"), "made here").expect("writes");
    assert_eq!(place.state("d/new"), "(0x00000000)");
    place.ok(&["hsm", "archive", "--wait", &place.path("d/new")]);
    assert_eq!(place.server.bucket("bucket").bytes("d/new").as_deref(), Some(&b"made here"[..]));
    assert_eq!(place.state("d/new"), "(0x00000009) exists archived, archive_id:1");
    place.ok(&["hsm", "set", "--norelease", "--noarchive", &place.path("d/new")]);
    assert_eq!(place.state("d/new"), "(0x00000039) exists archived never_release never_archive, archive_id:1");
    place.ok(&["hsm", "clear", "--noarchive", &place.path("d/new")]);
    let json = place.ok(&["--json", "hsm", "state", &place.path("d/new"), &place.path("d/f")]);
    let all: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(all[0]["states"], serde_json::json!(["exists", "archived", "norelease"]));
    assert_eq!((&all[0]["flags"], &all[1]["path"]), (&Value::from(0x19), &Value::from(place.path("d/f"))));
}

#[test]
fn the_verbs_return_at_once_unless_told_to_wait() {
    let place = Place::mounted();
    place.server.bucket("bucket").put("f", "content", []);
    let said = place.ok(&["hsm", "restore", &place.path("f")]);
    assert!(said.contains("task 1 is started"), "{said}");
    let task: Value = serde_json::from_str(&place.ok(&["--json", "hsm", "release", &place.path("f")])).expect("JSON");
    assert_eq!((&task["kind"], &task["id"]), (&Value::from("release"), &Value::from(2)));
    place.forebay(&["task", "wait", "2"]);
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line() {
    let place = Place::mounted();
    place.server.bucket("bucket").put("f", "content", []);
    let said = place.refused(&["hsm", "clear", "--archived", &place.path("f")], 1);
    assert!(said.contains("'archived' says how things are") && said.trim_end().lines().count() == 1, "{said}");
    let said = place.refused(&["hsm", "set", &place.path("f")], 2);
    assert!(said.contains("--norelease"), "{said}");
    let said = place.refused(&["hsm", "state", &place.path("none")], 1);
    assert!(said.contains("none") && said.trim_end().lines().count() == 1, "{said}");
    let said = place.refused(&["release", "--older-than", "soon", &place.path("f")], 2);
    assert!(said.contains("--older-than 'soon'") && said.contains("7d"), "{said}");
}

#[test]
fn preload_and_release_say_what_they_did() {
    let place = Place::mounted();
    for at in 0..5 {
        place.server.bucket("bucket").put(&format!("d/{at}"), vec![at; 100_000], []);
    }
    let task: Value = serde_json::from_str(&place.ok(&["--json", "preload", &place.path("d")])).expect("JSON");
    assert_eq!((&task["succeeded"], &task["bytes"]), (&Value::from(5), &Value::from(500_000)));
    // They were listed just now, from objects that are as young.
    place.ok(&["release", "--older-than", "1d", &place.path("d")]);
    assert_eq!(place.state("d/3"), "(0x00000009) exists archived, archive_id:1");
    let task: Value = serde_json::from_str(&place.ok(&["--json", "release", &place.path("d")])).expect("JSON");
    assert_eq!((&task["succeeded"], &task["bytes"]), (&Value::from(5), &Value::from(500_000)));
    assert_eq!(place.state("d/3"), "(0x0000000d) released exists archived, archive_id:1");
}
