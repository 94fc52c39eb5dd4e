//! Names that were asked for one by one while whole directories are listed: which answer is the later one.
//!
//! A walk over the bucket merges what was listed a while ago. A name about which the store was asked since is left out of that, so that an
//! event's answer is not taken back by a page that is older. In memory only, as the walks are.

use crate::ids::Ino;
use crate::meta::Merged;
use std::collections::{BTreeSet, HashMap};

/// Names remembered; when there are more, the older half of the time they span is forgotten. A page that old may then take an answer back until
/// the next walk.
const REMEMBERED: usize = 100_000;

/// When the store was last asked about single names, in wall time (ns).
#[derive(Default)]
pub(super) struct Settled {
    names: HashMap<Ino, HashMap<Vec<u8>, i64>>,
    count: usize,
}

/// What settling a name came to.
pub(super) struct SettledName {
    /// Whether the store has it.
    pub(super) is_there: bool,
    /// What changed here.
    pub(super) merged: Merged,
}

impl Settled {
    /// Notes an answer to a question of that time. `false` if there was one to a later question: then this one says nothing.
    pub(super) fn note(&mut self, dir: Ino, name: &[u8], asked_ns: i64) -> bool {
        if self.count >= REMEMBERED {
            self.forget();
        }
        let names = self.names.entry(dir).or_default();
        match names.get_mut(name) {
            Some(last) if *last > asked_ns => return false,
            Some(last) => *last = asked_ns,
            None => {
                names.insert(name.to_vec(), asked_ns);
                self.count += 1;
            }
        }
        true
    }

    /// The names of a directory that were asked for since.
    pub(super) fn since(&self, dir: Ino, asked_ns: i64) -> BTreeSet<Vec<u8>> {
        let names = self.names.get(&dir).into_iter().flatten();
        names.filter(|(_, at)| **at >= asked_ns).map(|(name, _)| name.clone()).collect()
    }

    fn forget(&mut self) {
        let times = || self.names.values().flat_map(|names| names.values().copied());
        let (oldest, newest) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let middle = oldest.midpoint(newest);
        for names in self.names.values_mut() {
            names.retain(|_, at| *at > middle);
        }
        self.names.retain(|_, names| !names.is_empty());
        self.count = self.names.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_later_question_counts() {
        let mut settled = Settled::default();
        assert!(settled.note(Ino(1), b"a", 10));
        assert!(!settled.note(Ino(1), b"a", 9), "an older question");
        assert!(settled.note(Ino(1), b"a", 12) && settled.note(Ino(1), b"b", 5) && settled.note(Ino(2), b"c", 20));
        assert_eq!(settled.since(Ino(1), 6), [b"a".to_vec()].into());
        assert_eq!(settled.since(Ino(1), 5).len(), 2);
        assert!(settled.since(Ino(1), 13).is_empty() && settled.since(Ino(3), 0).is_empty());
    }

    #[test]
    fn it_stays_bounded_and_keeps_the_newest() {
        let mut settled = Settled::default();
        for at in 0..2 * REMEMBERED as i64 {
            assert!(settled.note(Ino(at as u64 % 7), format!("{at}").as_bytes(), at));
            assert!(settled.count <= REMEMBERED);
        }
        let last = 2 * REMEMBERED as i64 - 1;
        assert_eq!(settled.since(Ino(last as u64 % 7), last).len(), 1);
    }
}
