//! Events of the bucket from a queue that loses, repeats, reorders and delays them, or is down: the bucket counts, not what they say.

use super::auto_import::{ALL, find, importing, listed, status};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::AutoImport;
use forebay_daemon::meta::engine::memory::MemoryEngine;
use forebay_daemon::meta::engine::{Batch, Durability, Engine, EngineError, View};
use forebay_daemon::repository::queue::faulty::{Fault, FaultyQueue, Op as QueueOp};
use forebay_daemon::repository::queue::memory::MemoryQueue;
use forebay_daemon::task::watch::QueueStatus;
use forebay_loopback_s3::{Fault as StoreFault, Op, Rule};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A site whose bucket has a queue.
struct Told {
    site: Site,
    behind: Arc<MemoryQueue>,
    queue: Arc<FaultyQueue>,
}

fn event(name: &str, key: &str) -> String {
    format!(r#"{{"Records":[{{"eventName":"{name}","s3":{{"bucket":{{"name":"bucket"}},"object":{{"key":"{key}"}}}}}}]}}"#)
}

impl Told {
    fn new() -> Self {
        let behind = Arc::new(MemoryQueue::new("memory://events"));
        Told { site: Site::new(), queue: Arc::new(FaultyQueue::new(behind.clone())), behind }
    }

    fn options(&self, policy: AutoImport) -> Options {
        Options { event_queue: Some(self.queue.clone()), ..importing(policy) }
    }

    /// A mount whose passes are over for the next hour, with all of it looked at.
    fn mount(&self) -> Mounted {
        self.mount_with(&self.options(ALL))
    }

    fn mount_with(&self, options: &Options) -> Mounted {
        let mount = self.site.mount(options);
        find(mount.root());
        until_quiet(&mount);
        mount
    }

    fn put(&self, key: &str, body: &str) {
        self.site.bucket().put(key, body.to_owned(), []);
    }

    fn created(&self, key: &str) {
        self.behind.send(event("ObjectCreated:Put", key));
    }

    fn removed(&self, key: &str) {
        self.behind.send(event("ObjectRemoved:Delete", key));
    }
}

fn queue(mount: &Mounted) -> QueueStatus {
    status(mount).queue.expect("there is one")
}

fn until_quiet(mount: &Mounted) {
    eventually("the queue is connected, and no pass is near", || {
        let status = status(mount);
        queue(mount).connected && !status.under_way && status.passes > 0 && status.interval_ms > 1_000_000
    });
    // The passes that the queue's beginning to work asked for.
    let mut before = (listed(mount).passes, true);
    eventually("no pass follows", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let status = status(mount);
        let now = (status.passes, status.under_way);
        std::mem::replace(&mut before, now) == now && !status.under_way
    });
}

fn has(mount: &Mounted, name: &str, body: &str) -> bool {
    mount.read(name).is_ok_and(|bytes| bytes == body.as_bytes())
}

#[test]
fn events_bring_what_they_are_about_and_are_deleted() {
    let told = Told::new();
    for key in ["in/d/changes", "in/d/goes", "in/gone/f", "in/a b+c"] {
        told.put(key, "old");
    }
    let mount = told.mount_with(&Options { prefix: "/in".into(), ..told.options(ALL) });
    // Here already: a read that met the new version would find it out before the event does.
    assert!(has(&mount, "d/changes", "old") && has(&mount, "a b+c", "old"));
    mount.settle();
    let passes = status(&mount).passes;
    told.put("in/d/changes", "newer");
    told.put("in/d/comes", "new");
    told.put("in/made/of/it", "new");
    told.put("in/a b+c", "newer");
    told.site.bucket().delete("in/d/goes");
    told.site.bucket().delete("in/gone/f");
    told.site.server.requests().reset();
    for key in ["in/d/changes", "in/d/comes", "in/made/of/it", "in/a+b%2Bc"] {
        told.created(key);
    }
    told.removed("in/d/goes");
    told.removed("in/gone/f");
    eventually("changes", || has(&mount, "d/changes", "newer") && has(&mount, "a b+c", "newer"));
    eventually("new", || has(&mount, "d/comes", "new") && has(&mount, "made/of/it", "new"));
    eventually("deleted", || !mount.path("d/goes").exists() && !mount.path("gone").exists());
    eventually("messages are deleted", || told.behind.is_empty());
    let status = status(&mount);
    assert_eq!((status.new, status.changed, status.deleted, status.passes), (2, 2, 3, passes), "{status:?}");
    assert_eq!((queue(&mount).messages, queue(&mount).unreadable), (6, 0));
}

#[test]
fn events_of_what_is_not_here_cost_nothing() {
    let told = Told::new();
    told.put("in/d/f", "old");
    told.put("in/unseen/f", "old");
    let mount = told.site.mount(&Options { prefix: "/in".into(), ..told.options(ALL) });
    std::fs::read_dir(mount.root()).unwrap().for_each(drop);
    until_quiet(&mount);
    told.site.server.requests().reset();
    told.created("out/side");
    told.created("in/a//b");
    told.created("in/d/../x");
    told.created("in/unseen/more/f");
    told.behind.send(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"bucket"}"#);
    told.behind.send(
        event("ObjectCreated:Put", "in/d/f").replace("\"bucket\":{\"name\":\"bucket\"}", "\"bucket\":{\"name\":\"other\"}"),
    );
    told.behind.send(event("ObjectTagging:Put", "in/d/f"));
    eventually("messages are deleted", || told.behind.is_empty());
    assert_eq!(told.site.count(Op::ListObjects) + told.site.count(Op::HeadObject), 0);
    let status = status(&mount);
    assert_eq!((status.new, status.changed, status.deleted, queue(&mount).unreadable), (0, 0, 0, 0));
}

#[test]
fn repeated_reordered_and_late_events_change_nothing_but_time() {
    let told = Told::new();
    told.put("d/a", "one");
    told.put("d/b", "one");
    let mount = told.mount();
    told.queue.next_of(QueueOp::Receive, Fault::Twice, 3);
    told.queue.next_of(QueueOp::Receive, Fault::ReplyLost, 1);
    // What happened: a was removed and put again, b put again and removed. Told the other way around, and twice.
    told.site.bucket().delete("d/a");
    told.put("d/a", "two");
    told.put("d/b", "two");
    told.site.bucket().delete("d/b");
    for _ in 0..2 {
        told.created("d/a");
        told.removed("d/a");
        told.removed("d/b");
        told.created("d/b");
    }
    told.behind.reverse();
    eventually("as the bucket is", || {
        told.behind.reveal();
        has(&mount, "d/a", "two") && !mount.path("d/b").exists() && told.behind.is_empty()
    });
    let before = status(&mount);
    told.created("d/b");
    told.removed("d/a");
    eventually("late ones are deleted, too", || told.behind.is_empty());
    assert!(has(&mount, "d/a", "two") && !mount.path("d/b").exists());
    let after = status(&mount);
    assert_eq!((after.new, after.changed, after.deleted), (before.new, before.changed, before.deleted));
}

#[test]
fn what_no_event_told_is_found_by_the_next_pass() {
    let told = Told::new();
    told.put("d/f", "old");
    let mount = told.mount();
    told.put("d/f", "newer");
    told.put("d/lost", "new");
    told.put("d/told", "new");
    told.created("d/told");
    eventually("what was told", || mount.path("d/told").exists());
    assert!(!mount.path("d/lost").exists() && status(&mount).changed == 0, "nothing told of it");
    listed(&mount);
    eventually("what was lost", || has(&mount, "d/lost", "new") && has(&mount, "d/f", "newer"));
}

#[test]
fn a_queue_that_is_down_makes_listing_do() {
    let told = Told::new();
    told.put("d/f", "old");
    let mount = told.mount();
    told.queue.always(Some(Fault::Failed));
    // Ends the request that waits for messages.
    told.created("d/none");
    eventually("it is told", || !queue(&mount).connected && queue(&mount).last_error.is_some());
    told.put("d/f", "newer");
    told.put("d/comes", "new");
    eventually("without events", || has(&mount, "d/f", "newer") && has(&mount, "d/comes", "new"));
    told.queue.always(None);
    told.put("d/later", "new");
    told.created("d/later");
    eventually("it works again", || queue(&mount).connected && queue(&mount).last_error.is_none());
    eventually("with events", || {
        told.behind.reveal();
        has(&mount, "d/later", "new") && told.behind.is_empty()
    });
    eventually("and listing is rare again", || status(&mount).interval_ms > 1_000_000);
}

#[test]
fn poison_goes_away_and_a_pass_makes_up_for_it() {
    let told = Told::new();
    told.put("d/f", "old");
    told.put("secret/f", "old");
    let mount = told.mount();
    let passes = status(&mount).passes;
    told.put("d/f", "newer");
    told.behind.send("no event at all");
    told.behind.send(r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{}}]}"#);
    eventually("what cannot be read is deleted", || told.behind.is_empty());
    assert_eq!(queue(&mount).unreadable, 2);
    eventually("and the bucket listed instead", || status(&mount).passes > passes && has(&mount, "d/f", "newer"));

    told.site.server.faults().add(Rule::new(StoreFault::AccessDenied).on(Op::ListObjects).key_prefix("secret/"));
    told.created("secret/f");
    told.created("d/f");
    eventually("what fails again and again is given up", || {
        told.behind.reveal();
        told.behind.is_empty()
    });
    assert!(queue(&mount).given_up >= 1);
}

#[test]
fn an_event_that_both_sides_changed_is_told_as_a_conflict() {
    let told = Told::new();
    told.put("d/f", "old");
    let mount = told.mount();
    std::fs::write(mount.path("d/f"), "here").unwrap();
    told.put("d/f", "there");
    told.created("d/f");
    eventually("told", || status(&mount).conflicts == 1);
    assert!(has(&mount, "d/f", "here") && told.site.bucket().bytes("d/f").unwrap().as_ref() == b"there");
    assert_eq!(status(&mount).conflict.as_deref(), Some("d/f"));
}

/// An engine that can be told not to make anything durable.
struct Unflushed {
    inner: MemoryEngine,
    fails: AtomicBool,
}

impl Engine for Unflushed {
    fn view(&self) -> Box<dyn View + '_> {
        self.inner.view()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.inner.commit(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        if self.fails.load(Ordering::Acquire) {
            let source = Box::new(std::io::Error::other("told to fail"));
            return Err(EngineError::Failed { engine: "unflushed", source });
        }
        self.inner.flush()
    }
}

#[test]
fn a_message_stays_until_what_it_led_to_is_durable() {
    let told = Told::new();
    told.put("d/f", "old");
    let engine = Arc::new(Unflushed { inner: MemoryEngine::default(), fails: AtomicBool::new(false) });
    let metadata: Arc<dyn Engine> = engine.clone();
    let mount = told.mount_with(&Options { replace_metadata: Some(metadata), ..told.options(ALL) });
    assert!(has(&mount, "d/f", "old"), "here already, as above");
    mount.settle();
    engine.fails.store(true, Ordering::Release);
    let asked = told.queue.asked(QueueOp::Backlog);
    told.put("d/f", "newer");
    told.created("d/f");
    eventually("it is done", || has(&mount, "d/f", "newer"));
    eventually("the batch is over", || told.queue.asked(QueueOp::Backlog) > asked);
    assert_eq!((told.behind.deleted(), told.behind.len()), (0, 1), "a power cut now would take it back");
    engine.fails.store(false, Ordering::Release);
    eventually("it comes again, and goes", || {
        told.behind.reveal();
        told.behind.is_empty()
    });
    assert_eq!(status(&mount).changed, 1, "once");
}
