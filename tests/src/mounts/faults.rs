//! A store that misbehaves: readers get the right bytes or an error, never anything else.

use crate::fixtures::mounted::{Options, Site};
use forebay_loopback_s3::{Fault, Op, Rule, Texture};
use std::time::Duration;

const LEN: u64 = 12 << 20;

/// A site with one object and its content.
fn site() -> (Site, Vec<u8>) {
    let site = Site::new();
    site.bucket().put_synthetic("f", 1, LEN, Texture::Noise);
    let mut bytes = vec![0; LEN as usize];
    Texture::Noise.fill(1, 0, &mut bytes);
    (site, bytes)
}

fn reads_right_in_spite_of(rule: Rule) {
    let (site, expected) = site();
    let mount = site.mount(&Options::default());
    site.server.faults().add(rule.on(Op::GetObject));
    assert!(mount.read("f").unwrap() == expected);
    assert!(site.server.faults().injected() > 0, "the fault was met");
}

#[test]
fn slow_down_is_waited_out() {
    reads_right_in_spite_of(Rule::new(Fault::SlowDown { retry_after_s: None }).times(4));
}

#[test]
fn internal_errors_are_tried_again() {
    reads_right_in_spite_of(Rule::new(Fault::InternalError).times(4));
}

#[test]
fn a_lost_reply_is_asked_for_again() {
    reads_right_in_spite_of(Rule::new(Fault::ReplyLost).times(3));
}

#[test]
fn a_body_reset_midway_goes_on_where_it_broke() {
    reads_right_in_spite_of(Rule::new(Fault::ResetMidBody { after_bytes: 200_000 }).times(5));
}

#[test]
fn a_truncated_body_is_noticed_and_completed() {
    reads_right_in_spite_of(Rule::new(Fault::TruncateBody { after_bytes: 300_001 }).times(5));
}

#[test]
fn a_fifth_of_all_requests_may_fail() {
    const FILES: u64 = 60;
    const BYTES: u64 = 200_000;
    let site = Site::new();
    for seed in 0..FILES {
        site.bucket().put_synthetic(&format!("f{seed}"), seed, BYTES, Texture::Noise);
    }
    let mount = site.mount(&Options::default());
    site.server.faults().add(Rule::new(Fault::ResetMidBody { after_bytes: 50_000 }).share(0.2).on(Op::GetObject));
    let mut expected = vec![0; BYTES as usize];
    for seed in 0..FILES {
        Texture::Noise.fill(seed, 0, &mut expected);
        assert!(mount.read(&format!("f{seed}")).unwrap() == expected);
    }
    assert!(site.server.faults().injected() > 0, "the fault was met");
}

/// Answers that lie about themselves must never become content: an error is right, other bytes are not.
fn never_wrong_with(fault: Fault) {
    let (site, expected) = site();
    let mount = site.mount(&Options { deadline: Duration::from_secs(2), ..Options::default() });
    site.server.faults().add(Rule::new(fault).on(Op::GetObject));
    if let Ok(bytes) = mount.read("f") {
        assert!(bytes == expected, "wrong bytes were handed out");
    }
    assert!(site.server.faults().injected() > 0, "the fault was met");
    site.server.faults().clear();
    assert!(mount.read("f").unwrap() == expected, "and the store is trusted again when it behaves");
}

#[test]
fn a_body_longer_than_its_range_is_no_content() {
    never_wrong_with(Fault::ResizeBody { by: 4096 });
}

#[test]
fn a_body_shorter_than_its_range_is_no_content() {
    never_wrong_with(Fault::ResizeBody { by: -4096 });
}

#[test]
fn another_range_than_asked_for_is_no_content() {
    never_wrong_with(Fault::ShiftContentRange { by: 4096 });
}

#[test]
fn denied_access_is_an_error_and_not_content() {
    never_wrong_with(Fault::AccessDenied);
}

#[test]
fn a_store_that_is_down_hurts_only_what_is_not_cached() {
    let (site, expected) = site();
    site.bucket().put_synthetic("other", 2, LEN, Texture::Noise);
    let mount = site.mount(&Options { deadline: Duration::from_secs(2), ..Options::default() });
    assert!(mount.read("f").unwrap() == expected);
    mount.settle();
    mount.forget_pages("f");
    site.server.faults().add(Rule::new(Fault::ResetBeforeReply));
    assert!(mount.read("f").unwrap() == expected, "cached reads go on");
    let error = mount.read("other").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}
