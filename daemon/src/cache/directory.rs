//! Read-ahead across files: a reader that goes through a directory of small objects in name order gets the next ones
//! fetched before it asks. Pure bookkeeping; the name space says what the next names are.

use std::collections::VecDeque;

/// Streams tracked in one directory: readers that split a directory among themselves each have their own.
const STREAMS: usize = 16;
/// Opens further ahead than this many names are not called "in order".
pub const NEAR: usize = 8;
/// Files fetched ahead of a stream at first, and at most. At 20 ms a request, 128 in flight bring 6,400 files a second.
const WINDOW: (usize, usize) = (8, 128);

/// What to fetch ahead: the names after one, so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Exclusive start.
    pub after: Vec<u8>,
    /// How many files.
    pub count: usize,
}

/// What the open of a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnOpen {
    /// The next files of the stream that it belongs to; answer with [`DirectoryAhead::planned`].
    Fetch(Ahead),
    /// Nothing: enough of its stream is under way.
    Enough,
    /// It belongs to no stream; if it had to be fetched, tell with [`DirectoryAhead::on_miss`].
    Stray,
}

/// What a directory's readers are doing.
#[derive(Debug, Default)]
pub struct DirectoryAhead {
    streams: VecDeque<Stream>,
}

#[derive(Debug)]
enum Stream {
    /// One file was read; these are the names after it.
    Candidate(Vec<Vec<u8>>),
    /// Files are being read in order.
    Running {
        /// First name that belongs to the stream.
        from: Vec<u8>,
        /// Last name that was asked to be fetched.
        frontier: Vec<u8>,
        /// Files fetched ahead and not opened yet.
        outstanding: usize,
        window: usize,
        /// Somebody looks for the next names: whoever opens a file meanwhile need not.
        asked: bool,
    },
}

impl DirectoryAhead {
    /// A file of the directory was opened.
    pub fn on_open(&mut self, name: &[u8]) -> OnOpen {
        let position = self.streams.iter().position(|stream| stream.includes(name));
        let Some(mut stream) = position.and_then(|position| self.streams.remove(position)) else { return OnOpen::Stray };
        let ahead = stream.advance(name);
        self.streams.push_front(stream);
        ahead.map_or(OnOpen::Enough, OnOpen::Fetch)
    }

    /// The names that an [`Ahead`] turned out to be, in order; empty at the end of the directory, or if they could not be found.
    pub fn planned(&mut self, after: &[u8], names: &[Vec<u8>]) {
        let matching = |stream: &&mut Stream| matches!(stream, Stream::Running { frontier, .. } if frontier == after);
        if let Some(Stream::Running { frontier, outstanding, asked, .. }) = self.streams.iter_mut().find(matching) {
            *asked = false;
            if let Some(last) = names.last() {
                frontier.clone_from(last);
                *outstanding += names.len();
            }
        }
    }

    /// A file outside all streams had to be fetched: remembers which names come next, to recognise the second one.
    pub fn on_miss(&mut self, next_names: Vec<Vec<u8>>) {
        if next_names.is_empty() {
            return;
        }
        self.streams.push_front(Stream::Candidate(next_names));
        self.streams.truncate(STREAMS);
    }
}

impl Stream {
    fn includes(&self, name: &[u8]) -> bool {
        match self {
            Stream::Candidate(next) => next.iter().any(|candidate| candidate == name),
            Stream::Running { from, frontier, .. } => from.as_slice() <= name && name <= frontier.as_slice(),
        }
    }

    fn advance(&mut self, name: &[u8]) -> Option<Ahead> {
        match self {
            Stream::Candidate(_) => {
                let from = name.to_vec();
                let ahead = Ahead { after: from.clone(), count: WINDOW.0 };
                *self = Stream::Running { frontier: from.clone(), from, outstanding: 0, window: WINDOW.0, asked: true };
                Some(ahead)
            }
            Stream::Running { frontier, outstanding, window, asked, .. } => {
                *outstanding = outstanding.saturating_sub(1);
                if *asked || *outstanding * 4 > *window * 3 {
                    return None;
                }
                *asked = true;
                *window = (*window * 2).min(WINDOW.1);
                Some(Ahead { after: frontier.clone(), count: *window - *outstanding })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: usize) -> Vec<u8> {
        format!("{i:06}").into_bytes()
    }

    /// Opens `order` in a directory of `size` files and returns how many files had been fetched ahead of their open.
    fn run(size: usize, order: impl Iterator<Item = usize>) -> (usize, usize) {
        let mut ahead = DirectoryAhead::default();
        let mut fetched = vec![false; size];
        let (mut hits, mut asked) = (0, 0);
        for i in order {
            hits += usize::from(fetched[i]);
            match ahead.on_open(&name(i)) {
                OnOpen::Fetch(Ahead { after, count }) => {
                    let start: usize = String::from_utf8(after.clone()).unwrap().parse().unwrap();
                    let names: Vec<_> = (start + 1..size.min(start + 1 + count)).map(name).collect();
                    asked += names.len();
                    (start + 1..start + 1 + names.len()).for_each(|n| fetched[n] = true);
                    ahead.planned(&after, &names);
                }
                OnOpen::Stray if !fetched[i] => ahead.on_miss((i + 1..size.min(i + 1 + NEAR)).map(name).collect()),
                OnOpen::Stray | OnOpen::Enough => {}
            }
        }
        (hits, asked)
    }

    #[test]
    fn a_reader_in_order_finds_nearly_every_file_fetched() {
        let (hits, asked) = run(2000, 0..2000);
        assert!(hits >= 1990, "{hits} of 2000");
        assert!(asked <= 2000, "each file asked for once: {asked}");
    }

    #[test]
    fn eight_readers_taking_turns_are_one_stream() {
        let shuffled = (0..2000).map(|i| (i / 8) * 8 + (i % 8) * 5 % 8);
        let (hits, _) = run(2000, shuffled);
        assert!(hits >= 1950, "{hits} of 2000");
    }

    #[test]
    fn eight_readers_with_a_share_each_are_eight_streams() {
        let interleaved = (0..2000).map(|i| (i % 8) * 250 + i / 8);
        let (hits, _) = run(2000, interleaved);
        assert!(hits >= 1950, "{hits} of 2000");
    }

    fn asked(on_open: OnOpen) -> Ahead {
        match on_open {
            OnOpen::Fetch(ahead) => ahead,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_opened_while_the_next_names_are_looked_for_do_not_have_them_looked_for_again() {
        let mut ahead = DirectoryAhead::default();
        assert_eq!(ahead.on_open(&name(0)), OnOpen::Stray);
        ahead.on_miss(vec![name(1)]);
        let first = asked(ahead.on_open(&name(1)));
        assert_eq!(ahead.on_open(&name(1)), OnOpen::Enough, "already asked for");
        ahead.planned(&first.after, &[]);
        let again = asked(ahead.on_open(&name(1)));
        assert_eq!(again.after, first.after, "nothing was found; asked once more");
        ahead.planned(&again.after, &[name(2), name(3)]);
        assert_eq!(asked(ahead.on_open(&name(2))).after, name(3));
        assert_eq!(ahead.on_open(&name(3)), OnOpen::Enough);
        assert_eq!(ahead.on_open(&name(4)), OnOpen::Stray);
    }

    #[test]
    fn random_order_fetches_little_ahead() {
        let (_, asked) = run(100_000, (0..2000).map(|i| i * 48271 % 100_000));
        assert!(asked <= 100, "{asked}");
    }
}
