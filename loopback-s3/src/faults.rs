//! Faults on demand: what a store, or the network before it, does on a bad day.
//!
//! A [`Rule`] says which requests, when, and what happens to them. The first rule that fires decides; latency and bandwidth
//! hold for all requests besides. Everything can be changed while the server runs, and acts on real sockets.
//!
//! 1. Shares are drawn from a seeded sequence: the same seed and the same order of requests give the same faults.

use crate::observe::{Op, RequestRecord};
use crate::store::mix;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 SlowDown, not applied.
    SlowDown {
        /// The `Retry-After` header, in seconds.
        retry_after_s: Option<u64>,
    },
    /// 500 InternalError, not applied.
    InternalError,
    /// 403 AccessDenied, not applied.
    AccessDenied,
    /// 409 ConditionalRequestConflict, not applied: what S3 says to one of two conditional writes at once.
    Conflict,
    /// "200 OK" with InternalError in the body, not applied: how copies and completions fail that failed late.
    ErrorInBody,
    /// 501 NotImplemented, not applied: what other stores say to headers that they do not know.
    NotImplemented,
    /// The connection is reset when the request has been read, which is not applied.
    ResetBeforeReply,
    /// The request is applied; the connection is reset instead of a reply.
    ReplyLost,
    /// The head and some of the body arrive, then the connection is reset.
    ResetMidBody {
        /// Bytes of the body that are sent before.
        after_bytes: u64,
    },
    /// The head and some of the body arrive, then the connection is closed in good order: `Content-Length` promised more.
    TruncateBody {
        /// Bytes of the body that are sent before.
        after_bytes: u64,
    },
    /// A well-formed reply whose body (and `Content-Length`) is longer or shorter than the range or object it claims to be.
    ResizeBody {
        /// Bytes to add (zeros, at the end) or, negative, to leave out (from the end).
        by: i64,
    },
    /// `Content-Range` names bytes that far from those sent; a reply without that header stays as it is.
    ShiftContentRange {
        /// Added to both ends.
        by: i64,
    },
    /// Nothing is sent for a while, in the midst of the body.
    Stall {
        /// Bytes of the body that are sent before.
        after_bytes: u64,
        /// How long.
        pause: Duration,
    },
    /// The reply begins later by this much.
    Delay(Duration),
}

/// Which requests a fault befalls, and how often. Made with [`Rule::new`], which fires always and for all.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    ops: Vec<Op>,
    key_prefix: String,
    skip: u64,
    times: u64,
    share: f64,
}

impl Rule {
    /// `fault`, for every request.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, ops: Vec::new(), key_prefix: String::new(), skip: 0, times: u64::MAX, share: 1.0 }
    }

    /// Only requests of this operation (called again: or of this one).
    pub fn on(mut self, op: Op) -> Rule {
        self.ops.push(op);
        self
    }

    /// Only keys that begin with this.
    pub fn key_prefix(mut self, prefix: &str) -> Rule {
        self.key_prefix = prefix.to_owned();
        self
    }

    /// Lets the first `count` requests that match pass.
    pub fn skip(mut self, count: u64) -> Rule {
        self.skip = count;
        self
    }

    /// Fires at most so often.
    pub fn times(mut self, count: u64) -> Rule {
        self.times = count;
        self
    }

    /// Fires for this share (0 to 1) of the requests that match.
    pub fn share(mut self, share: f64) -> Rule {
        self.share = share;
        self
    }

    fn matches(&self, record: &RequestRecord) -> bool {
        (self.ops.is_empty() || self.ops.contains(&record.op)) && record.key.starts_with(&self.key_prefix)
    }

    /// Whether it fires for a request that matches; counts the request.
    fn fires(&mut self, draw: f64) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == 0 || draw >= self.share {
            return false;
        }
        self.times -= 1;
        true
    }
}

/// The faults of a server.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Rules>,
    /// So that a server without faults takes no lock.
    rule_count: AtomicU64,
    injected: AtomicU64,
    latency_ns: AtomicU64,
    /// 0: not limited.
    bandwidth: AtomicU64,
}

#[derive(Debug)]
struct Rules {
    rules: Vec<Rule>,
    seed: u64,
    draws: u64,
}

/// What is to happen to one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) fault: Option<Fault>,
    pub(crate) latency: Duration,
    /// Bytes per second of this connection.
    pub(crate) bandwidth: Option<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            rules: Mutex::new(Rules { rules: Vec::new(), seed: 0, draws: 0 }),
            rule_count: AtomicU64::new(0),
            injected: AtomicU64::new(0),
            latency_ns: AtomicU64::new(0),
            bandwidth: AtomicU64::new(0),
        }
    }
}

impl Faults {
    /// Adds a rule after those there are.
    pub fn add(&self, rule: Rule) {
        let mut rules = self.rules.lock();
        rules.rules.push(rule);
        self.rule_count.store(rules.rules.len() as u64, Ordering::Release);
    }

    /// Removes all rules, latency and bandwidth limits.
    pub fn clear(&self) {
        self.rules.lock().rules.clear();
        self.rule_count.store(0, Ordering::Release);
        self.set_latency(Duration::ZERO);
        self.set_bandwidth(None);
    }

    /// Begins the sequence that shares are drawn from anew.
    pub fn seed(&self, seed: u64) {
        let mut rules = self.rules.lock();
        (rules.seed, rules.draws) = (seed, 0);
    }

    /// Every reply begins at least this long after its request arrived.
    pub fn set_latency(&self, latency: Duration) {
        self.latency_ns.store(latency.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Bodies are sent no faster than this on each connection, in bytes per second.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.bandwidth.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// How many faults rules have caused.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    pub(crate) fn plan(&self, record: &RequestRecord) -> Plan {
        Plan {
            fault: self.draw_fault(record),
            latency: Duration::from_nanos(self.latency_ns.load(Ordering::Relaxed)),
            bandwidth: Some(self.bandwidth.load(Ordering::Relaxed)).filter(|limit| *limit > 0),
        }
    }

    fn draw_fault(&self, record: &RequestRecord) -> Option<Fault> {
        if self.rule_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut rules = self.rules.lock();
        let Rules { rules, seed, draws } = &mut *rules;
        for rule in rules.iter_mut().filter(|rule| rule.matches(record)) {
            *draws += 1;
            if rule.fires(unit_interval(mix(*seed ^ mix(*draws)))) {
                self.injected.fetch_add(1, Ordering::Relaxed);
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

/// A number from 0 up to (not including) 1.
fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(op: Op, key: &str) -> RequestRecord {
        RequestRecord { op, bucket: "b".to_owned(), key: key.to_owned(), range: None }
    }

    fn fired(faults: &Faults, count: usize) -> Vec<bool> {
        (0..count).map(|_| faults.plan(&record(Op::GetObject, "k")).fault.is_some()).collect()
    }

    #[test]
    fn a_script_skips_then_fires_then_is_spent() {
        let faults = Faults::default();
        faults.add(Rule::new(Fault::InternalError).skip(2).times(1));
        assert_eq!(fired(&faults, 5), [false, false, true, false, false]);
    }

    #[test]
    fn rules_pick_by_operation_and_key() {
        let faults = Faults::default();
        faults.add(Rule::new(Fault::InternalError).on(Op::HeadObject).key_prefix("a/"));
        assert!(faults.plan(&record(Op::HeadObject, "a/1")).fault.is_some());
        assert!(faults.plan(&record(Op::HeadObject, "b/1")).fault.is_none());
        assert!(faults.plan(&record(Op::GetObject, "a/1")).fault.is_none());
    }

    #[test]
    fn a_share_is_a_share_and_follows_the_seed() {
        let run = |seed| {
            let faults = Faults::default();
            faults.seed(seed);
            faults.add(Rule::new(Fault::ReplyLost).share(0.1));
            fired(&faults, 10_000)
        };
        let hits = run(7).iter().filter(|hit| **hit).count();
        assert!((900..1100).contains(&hits), "{hits} of 10000 at a share of 0.1");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn the_first_rule_that_fires_decides() {
        let faults = Faults::default();
        faults.add(Rule::new(Fault::InternalError).times(1));
        faults.add(Rule::new(Fault::ReplyLost));
        assert_eq!(faults.plan(&record(Op::PutObject, "k")).fault, Some(Fault::InternalError));
        assert_eq!(faults.plan(&record(Op::PutObject, "k")).fault, Some(Fault::ReplyLost));
    }
}
