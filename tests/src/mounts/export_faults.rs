//! An export through a store on a bad day: it ends as on a good one, only later.

use super::export::{body, export_as, names, noise};
use crate::fixtures::mounted::{Mounted, Options, Site};
use forebay_daemon::config::OnConflict;
use forebay_loopback_s3::{Fault, Op, Rule};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Writes of all kinds: what is sent whole and in parts, copied, changed in its attributes alone, and deleted.
const WRITES: [Op; 6] = [Op::PutObject, Op::CopyObject, Op::CreateUpload, Op::UploadPart, Op::CompleteUpload, Op::DeleteObject];

/// What the bucket should have when the changes of [`change`] were exported.
fn change(site: &Site, mount: &Mounted) -> BTreeMap<String, Vec<u8>> {
    let mut wanted = BTreeMap::new();
    for at in 0..40_u8 {
        let (name, content) = (format!("new{at:02}"), noise(u64::from(at) + 1, 3000));
        std::fs::write(mount.path(&name), &content).expect("writes");
        wanted.insert(name, content);
    }
    let large = noise(99, 20 << 20);
    std::fs::write(mount.path("large"), &large).expect("writes");
    wanted.insert("large".to_owned(), large);
    names(mount, "old");
    for at in 0..30 {
        let (from, to) = (format!("old/{at:02}"), format!("moved{at:02}"));
        let content = body(site, &from).expect("an object");
        match at % 3 {
            0 => std::fs::rename(mount.path(&from), mount.path(&to)).expect("renames"),
            1 => std::fs::remove_file(mount.path(&from)).expect("removes"),
            _ => std::fs::set_permissions(mount.path(&from), PermissionsExt::from_mode(0o640)).expect("sets a mode"),
        }
        match at % 3 {
            0 => drop(wanted.insert(to, content)),
            1 => {}
            _ => drop(wanted.insert(from, content)),
        }
    }
    wanted
}

fn site() -> Site {
    let site = Site::new();
    for at in 0..30 {
        site.bucket().put(&format!("old/{at:02}"), noise(200 + at, 2000), []);
    }
    site
}

fn there(site: &Site) -> BTreeMap<String, Vec<u8>> {
    site.bucket().keys().into_iter().map(|key| (key.clone(), body(site, &key).unwrap_or_default())).collect()
}

/// Exports everything while rules hold; the outcome is that of a good day.
fn ends_well(rules: impl FnOnce(&Site), at_least: u64) {
    let site = site();
    let mount = site.mount(&Options::default());
    let wanted = change(&site, &mount);
    rules(&site);
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    assert!(site.server.faults().injected() >= at_least, "{} faults", site.server.faults().injected());
    site.server.faults().clear();
    assert!(there(&site) == wanted, "{:?}", there(&site).keys());
    assert!(site.bucket().uploads().is_empty(), "no upload is left behind");
    let again = export_as(&mount, OnConflict::Fail, true);
    assert!(again.sent.lock().expect("no panic").is_empty(), "and nothing is left to be sent: {:?}", again.sent);
}

/// A share of all writes fails like this.
fn writes_fail(fault: Fault, share: f64) {
    let all = |site: &Site| {
        let rule = WRITES.iter().fold(Rule::new(fault).share(share).times(60), |rule, op| rule.on(*op));
        site.server.faults().add(rule);
    };
    ends_well(all, 10);
}

#[test]
fn a_storm_of_503_and_500() {
    writes_fail(Fault::InternalError, 0.4);
}

#[test]
fn throttling_with_and_without_a_time_to_wait() {
    ends_well(
        |site| {
            let on_writes = |rule: Rule| WRITES.iter().fold(rule, |rule, op| rule.on(*op));
            site.server.faults().add(on_writes(Rule::new(Fault::SlowDown { retry_after_s: Some(1) }).times(4)));
            site.server.faults().add(on_writes(Rule::new(Fault::SlowDown { retry_after_s: None }).share(0.3).times(20)));
        },
        10,
    );
}

#[test]
fn connections_that_are_dropped_before_they_are_answered() {
    writes_fail(Fault::ResetBeforeReply, 0.3);
}

#[test]
fn what_was_applied_and_never_answered() {
    writes_fail(Fault::ReplyLost, 0.4);
}

#[test]
fn one_of_two_conditional_writes_at_once() {
    writes_fail(Fault::Conflict, 0.3);
}

#[test]
fn copies_and_completions_that_fail_after_200_ok() {
    ends_well(
        |site| {
            let rule = Rule::new(Fault::ErrorInBody).on(Op::CopyObject).on(Op::CompleteUpload).share(0.5).times(20);
            site.server.faults().add(rule);
        },
        5,
    );
}

#[test]
fn slow_connections() {
    ends_well(
        |site| {
            site.server.faults().set_bandwidth(Some(64 << 10));
            site.server.faults().set_latency(Duration::from_millis(30));
            let late = Rule::new(Fault::Delay(Duration::from_millis(1500)));
            site.server.faults().add(WRITES.iter().fold(late.share(0.2).times(12), |rule, op| rule.on(*op)));
        },
        5,
    );
}

#[test]
fn a_store_that_is_down_is_told_and_the_next_export_ends_it() {
    let site = site();
    let mount = site.mount(&Options { deadline: Duration::from_secs(1), ..Options::default() });
    let wanted = change(&site, &mount);
    let down = WRITES.iter().fold(Rule::new(Fault::InternalError), |rule, op| rule.on(*op));
    site.server.faults().add(down);
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(!seen.failed.lock().expect("no panic").is_empty());
    site.server.faults().clear();
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    assert!(there(&site) == wanted && site.bucket().uploads().is_empty());
}
