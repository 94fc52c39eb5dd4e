//! Where to cut a span of keys so that both halves have something in them: by asking, a key at a time, which characters there are.
//!
//! Of the key that the listing has come to, the leftmost character is looked for after which other ones follow in its place; of those that
//! follow, the greatest; the cut is in the middle. Twenty small requests or so, beside the listing that goes on meanwhile.

/// Asks for the first key after another, `None` if there is none in the span.
pub(super) trait NextKey {
    /// Why it cannot be said.
    type Error;
    /// The first key after `key`.
    async fn after(&self, key: String) -> Result<Option<String>, Self::Error>;
}

/// A key to cut at: keys of the span come after it, and `listed` before it. `None` if nothing, or hardly anything, is left.
pub(super) async fn cut_after<N: NextKey>(root: &str, listed: &str, next: &N) -> Result<Option<String>, N::Error> {
    let Some(rest) = listed.strip_prefix(root) else { return Ok(None) };
    let chars: Vec<char> = rest.chars().collect();
    let Some((place, found)) = first_varying(root, &chars, next).await? else { return Ok(None) };
    let at = |c: char| root.chars().chain(chars[..place].iter().copied()).chain([c]).collect::<String>();
    let char_of = |key: &str| key.strip_prefix(root).and_then(|rest| rest.chars().nth(place));
    let Some(mut greatest) = char_of(&found) else { return Ok(None) };
    let mut beyond = None;
    // Ten steps tell any two characters of the first plane apart well enough.
    for _ in 0..10 {
        let first = if greatest < '~' { '~' } else { between(greatest, '\u{FFFF}', 16) };
        let high = beyond.unwrap_or(first.max(succ(greatest)));
        let middle = if beyond.is_some() { between(greatest, high, 2) } else { high };
        if middle <= greatest {
            break;
        }
        match next.after(at(middle)).await?.as_deref().and_then(char_of) {
            Some(further) if further > greatest => greatest = further,
            _ => beyond = Some(middle),
        }
    }
    let middle = between(chars[place], greatest, 2).max(succ(chars[place]));
    Ok(Some(at(middle.min(greatest))))
}

/// The leftmost place in `chars` where keys that follow have another character, and the first of those keys.
async fn first_varying<N: NextKey>(root: &str, chars: &[char], next: &N) -> Result<Option<(usize, String)>, N::Error> {
    let beyond = |place: usize| {
        let after = chars[..place].iter().copied().chain([succ(chars[place])]);
        next.after(root.chars().chain(after).collect())
    };
    let (mut low, mut high) = (0, chars.len());
    let mut found = None;
    // The further right, the more keys follow.
    while low < high {
        let place = usize::midpoint(low, high);
        match beyond(place).await? {
            Some(key) => (high, found) = (place, Some(key)),
            None => low = place + 1,
        }
    }
    Ok(found.map(|key| (low, key)))
}

fn succ(c: char) -> char {
    char::from_u32(u32::from(c) + 1).unwrap_or(if c < '\u{E000}' { '\u{E000}' } else { char::MAX })
}

/// A character `1/parts` of the way from one to another.
fn between(from: char, to: char, parts: u32) -> char {
    let (from, to) = (u32::from(from), u32::from(to));
    let at = from + to.saturating_sub(from) / parts;
    char::from_u32(at).unwrap_or('\u{D7FF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::ops::Bound;

    struct Keys(BTreeSet<String>, Cell<u32>);

    impl NextKey for Keys {
        type Error = ();
        async fn after(&self, key: String) -> Result<Option<String>, ()> {
            self.1.set(self.1.get() + 1);
            Ok(self.0.range((Bound::Excluded(key), Bound::Unbounded)).next().cloned())
        }
    }

    async fn shares(root: &str, keys: impl Iterator<Item = String>, listed: usize) -> Option<(usize, usize)> {
        let keys = Keys(keys.collect(), Cell::new(0));
        let at = keys.0.iter().nth(listed).unwrap().clone();
        let cut = cut_after(root, &at, &keys).await.unwrap()?;
        assert!(keys.1.get() <= 30, "{} requests", keys.1.get());
        assert!(cut > at, "{cut} is after {at}");
        let left = keys.0.range((Bound::Excluded(at), Bound::Included(cut.clone()))).count();
        Some((left, keys.0.range((Bound::Excluded(cut), Bound::Unbounded)).count()))
    }

    #[tokio::test]
    async fn numbered_keys_are_cut_near_the_middle() {
        let (left, right) = shares("", (0..100_000).map(|i| format!("data/part-{i:08}")), 2000).await.unwrap();
        assert!(left > 20_000 && right > 20_000, "{left} and {right}");
        let (left, right) = shares("data/", (0..5_000).map(|i| format!("data/{i:04}/x-{}", i % 7)), 50).await.unwrap();
        assert!(left > 1_000 && right > 1_000, "{left} and {right}");
    }

    #[tokio::test]
    async fn directories_and_hashes_are_cut() {
        let dirs = (0..20_000).map(|i| format!("{}/{:05}", ["alpha", "beta", "gamma", "ümlaut"][i % 4], i));
        let (left, right) = shares("", dirs, 100).await.unwrap();
        assert!(left > 2_000 && right > 2_000, "{left} and {right}");
        let hashes = (0..20_000u64).map(|i| format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let (left, right) = shares("", hashes, 1_000).await.unwrap();
        assert!(left > 5_000 && right > 5_000, "{left} and {right}");
    }

    #[tokio::test]
    async fn the_end_is_not_cut() {
        assert_eq!(shares("", (0..100).map(|i| format!("{i:03}")), 99).await, None);
    }
}
