//! Blocks in a random order, each once, without a list of them: reads that come to a block twice would measure memory.

/// Rounds of mixing; after two each bit of a number depends on all of it.
const MIXES: usize = 3;

/// A permutation of `0..count`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    count: u64,
    /// A power of two less one, not less than the largest number.
    mask: u64,
    shift: u32,
    factors: [u64; MIXES],
}

impl Order {
    /// A permutation that follows from the seed.
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        assert!(count > 0, "an order of something");
        let mask = count.next_power_of_two() - 1;
        let shift = (mask.count_ones() / 2).max(1);
        let factors = std::array::from_fn(|n| splitmix(seed.wrapping_add(n as u64)) | 1);
        Order { count, mask, shift, factors }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number at a place.
    pub(crate) fn at(&self, place: u64) -> u64 {
        // Walks the cycle until it is back inside: at most every second number is outside.
        let mut number = self.mix(place % self.count);
        while number >= self.count {
            number = self.mix(number);
        }
        number
    }

    /// A permutation of `0..=mask`: each step can be undone.
    fn mix(&self, number: u64) -> u64 {
        self.factors.iter().fold(number, |number, factor| {
            let product = number.wrapping_mul(*factor).wrapping_add(factor >> 32) & self.mask;
            product ^ (product >> self.shift)
        })
    }
}

/// A number that looks random, of one that does not.
pub(crate) fn splitmix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        for count in [1, 2, 3, 7, 64, 1000, 4097] {
            let order = Order::new(count, 9);
            let mut all: Vec<u64> = (0..count).map(|place| order.at(place)).collect();
            assert_eq!(order.at(count), all[0], "then it begins again");
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_are_not_read_one_after_the_other() {
        let order = Order::new(10_000, 1);
        let near = (1..10_000).filter(|place| order.at(*place).abs_diff(order.at(place - 1)) < 16).count();
        assert!(near < 200, "{near} of 10,000 steps are short: about 32 would be by chance");
        assert_ne!(Order::new(1000, 1).at(5), Order::new(1000, 2).at(5));
    }
}
