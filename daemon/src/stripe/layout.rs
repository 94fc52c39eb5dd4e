//! Stripe layouts, as Lustre has them: count, size and first device of a file, inherited from its directory. Pure maths.
//!
//! A file's stripes are numbered by offset. Where stripe `s` of a file goes follows from the layout, the file's seed and the
//! devices' weights alone, so nothing about it needs to be stored:
//!
//! 1. *Which devices.* `stripe_count` of them are drawn by systematic sampling: device `i` is drawn with probability
//!    `π(i) = min(1, c·w(i))`, where `c` makes the probabilities add up to the count.
//! 2. *Whose turn.* Each drawn device gets `w(i)/π(i)` turns in a cycle. Over many files, its share is then
//!    `π(i) · w(i)/π(i) ∝ w(i)`: exactly its part of the capacity, whatever the count.
//! 3. *In what order.* The turns of a device are spread evenly over the cycle, and a file starts at a turn its seed picks.
//!    Devices of equal weight therefore take strict turns, round robin.

pub use crate::format::rows::Layout;

/// A layout that no file can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLayout {
    /// No bytes per stripe.
    #[error("a stripe size of 0 holds nothing: use at least {block_size} bytes, the size of a block")]
    NoSize {
        /// The file system's block size in bytes.
        block_size: u32,
    },
    /// A block would lie on two devices.
    #[error("a stripe size of {stripe_size} bytes is not a multiple of the block size of {block_size} bytes")]
    NotWholeBlocks {
        /// The stripe size asked for.
        stripe_size: u64,
        /// The file system's block size in bytes.
        block_size: u32,
    },
}

impl Layout {
    /// Checks that a file system of this block size can have this layout. A count beyond the number of devices is fine: it
    /// means all of them.
    pub fn validate(&self, block_size: u32) -> Result<(), BadLayout> {
        match self.stripe_size {
            0 => Err(BadLayout::NoSize { block_size }),
            size if !size.is_multiple_of(u64::from(block_size)) => {
                Err(BadLayout::NotWholeBlocks { stripe_size: size, block_size })
            }
            _ => Ok(()),
        }
    }

    /// The number of the stripe that holds a byte of a file.
    pub fn stripe_of(&self, byte_offset: u64) -> u64 {
        byte_offset / self.stripe_size.max(1)
    }

    /// Which device stripe `stripe` of the file with this seed goes to: an index into `weights`, which are the devices'
    /// capacities (a weight of 0 keeps a device out). `None` if every weight is 0.
    pub fn device_of(&self, weights: &[u64], file_seed: u64, stripe: u64) -> Option<usize> {
        let drawn = draw(weights, self.spread(weights), file_seed);
        if drawn.len() < 2 {
            return drawn.first().map(|share| share.device);
        }
        let turns = turns(&drawn);
        let cycle: u64 = turns.iter().sum();
        let start = mix(file_seed) % cycle;
        Some(drawn[holder(&turns, (stripe % cycle + start) % cycle)].device)
    }

    /// As [`Layout::device_of`], passing over devices that are not `usable`: only their stripes move, spread over all others.
    /// `None` if no device is usable.
    pub fn usable_device_of(
        &self,
        weights: &[u64],
        usable: impl Fn(usize) -> bool,
        file_seed: u64,
        stripe: u64,
    ) -> Option<usize> {
        let first = self.device_of(weights, file_seed, stripe)?;
        if usable(first) {
            return Some(first);
        }
        let left: Vec<u64> = (0..weights.len()).map(|device| if usable(device) { weights[device] } else { 0 }).collect();
        // The stripes of one device are every nth: numbered anew, or their turns would all fall on the same other device.
        self.device_of(&left, file_seed, stripe / self.spread(weights).max(1) as u64)
    }

    /// How many devices a file has.
    fn spread(&self, weights: &[u64]) -> usize {
        let devices = weights.iter().filter(|weight| **weight > 0).count();
        if self.stripe_count == 0 { devices } else { devices.min(usize::from(self.stripe_count)) }
    }
}

/// A device of a file, and its weight among them: `w/π`.
struct Share {
    device: usize,
    weight: u128,
}

/// Draws `count` devices by systematic sampling; returns them in their order in the array.
fn draw(weights: &[u64], count: usize, seed: u64) -> Vec<Share> {
    let mut by_weight: Vec<usize> = (0..weights.len()).filter(|device| weights[*device] > 0).collect();
    by_weight.sort_by_key(|device| std::cmp::Reverse(weights[*device]));
    let mut total: u128 = by_weight.iter().map(|device| u128::from(weights[*device])).sum();
    let mut places = count as u128;
    let mut drawn = Vec::with_capacity(count);
    // Devices so large that each is always drawn; every one leaves a place and its weight less to the others.
    let certain = by_weight.iter().take_while(|device| {
        let weight = u128::from(weights[**device]);
        let always = places > 0 && weight * places >= total;
        if always {
            drawn.push(Share { device: **device, weight });
            (places, total) = (places - 1, total - weight);
        }
        always
    });
    let certain = certain.count();
    if places > 0 {
        sample(weights, &mut by_weight[certain..], (places, total), seed, &mut drawn);
    }
    drawn.sort_by_key(|share| share.device);
    drawn
}

/// Lays the devices on a line, each as long as its weight, and draws those that hold one of `places` evenly spaced points.
fn sample(weights: &[u64], devices: &mut [usize], (places, total): (u128, u128), seed: u64, drawn: &mut Vec<Share>) {
    // In an order the seed picks, so that any set of devices can be drawn.
    devices.sort_by_cached_key(|device| mix(seed ^ mix(*device as u64)));
    // Lengths are multiplied by `places`, which keeps the points at whole numbers.
    let mut point = u128::from(mix(!seed)) % total;
    let mut reached = 0;
    for device in devices.iter() {
        reached += u128::from(weights[*device]) * places;
        if point < reached {
            drawn.push(Share { device: *device, weight: total / places });
            point += total;
        }
    }
}

/// How many turns each device has in a cycle. Devices within 1 % of the largest count as equal to it, so that drives of one
/// kind take strict turns though their file systems differ by a little.
fn turns(drawn: &[Share]) -> Vec<u64> {
    const MOST: u128 = 1024;
    let largest = drawn.iter().map(|share| share.weight).max().unwrap_or(1);
    let turns = |weight: u128| if weight * 100 >= largest * 99 { MOST } else { (weight * MOST / largest).max(1) };
    drawn.iter().map(|share| turns(share.weight) as u64).collect()
}

/// Whose turn it is at place `at` of the cycle, when turn `j` of a device with `n` turns stands at `(2j + 1) / 2n` of it, and
/// turns at the same point are in the order of devices.
fn holder(turns: &[u64], at: u64) -> usize {
    if turns.iter().all(|n| *n == turns[0]) {
        return (at % turns.len() as u64) as usize;
    }
    let holds = |device: usize| {
        let (mut low, mut high) = (0, turns[device]);
        while low < high {
            let middle = (low + high) / 2;
            if rank(turns, device, middle) < at { low = middle + 1 } else { high = middle }
        }
        low < turns[device] && rank(turns, device, low) == at
    };
    (0..turns.len()).find(|device| holds(*device)).expect("every place of the cycle is some device's turn")
}

/// How many turns come before turn `turn` of a device.
fn rank(turns: &[u64], device: usize, turn: u64) -> u64 {
    let own = turns[device];
    let before = |(other, n): (usize, &u64)| {
        let point = (2 * turn + 1) * n;
        // Odd numbers below point / own; of devices earlier in the order, also one that is equal to it.
        if other < device { (point / own).div_ceil(2) } else { point.div_ceil(own) / 2 }
    };
    turns.iter().enumerate().map(before).sum()
}

/// Spreads seeds that differ by little over all 64 bits (the finaliser of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(stripe_count: u8) -> Layout {
        Layout { stripe_count, stripe_size: 1 << 20 }
    }

    /// Each device's part of all stripes of many files.
    fn measured(layout: Layout, weights: &[u64], usable: impl Fn(usize) -> bool) -> Vec<f64> {
        let (files, stripes) = (1200, 24);
        let mut counts = vec![0u32; weights.len()];
        for file in 0..files {
            for stripe in 0..stripes {
                counts[layout.usable_device_of(weights, &usable, file * 7 + 3, stripe).unwrap()] += 1;
            }
        }
        counts.iter().map(|count| f64::from(*count) / (files * stripes) as f64).collect()
    }

    fn devices_of(layout: Layout, weights: &[u64], seed: u64) -> std::collections::BTreeSet<usize> {
        (0..200).map(|stripe| layout.device_of(weights, seed, stripe).unwrap()).collect()
    }

    #[test]
    fn layouts_are_whole_blocks() {
        assert_eq!(layout(0).validate(128 << 10), Ok(()));
        let empty = Layout { stripe_count: 0, stripe_size: 0 };
        assert_eq!(empty.validate(4096), Err(BadLayout::NoSize { block_size: 4096 }));
        let odd = Layout { stripe_count: 0, stripe_size: 6144 };
        assert_eq!(odd.validate(4096), Err(BadLayout::NotWholeBlocks { stripe_size: 6144, block_size: 4096 }));
    }

    #[test]
    fn turns_hold_every_place_once() {
        for turns in [vec![3, 1], vec![5, 5, 2], vec![7, 3, 3, 1], vec![1024, 10, 512]] {
            let cycle: u64 = turns.iter().sum();
            let mut held = vec![0; turns.len()];
            (0..cycle).for_each(|at| held[holder(&turns, at)] += 1);
            assert_eq!(held, turns);
        }
    }

    #[test]
    fn a_twice_larger_device_takes_two_turns_of_three_evenly() {
        let devices: Vec<usize> = (0..3000).map(|stripe| layout(0).device_of(&[200, 100], 9, stripe).unwrap()).collect();
        assert!(devices.windows(4).all(|four| four.contains(&1) && four.contains(&0)));
    }

    #[test]
    fn files_start_on_different_devices() {
        let starts: Vec<usize> = (0..4000).map(|seed| layout(0).device_of(&[1; 4], seed, 0).unwrap()).collect();
        for device in 0..4 {
            let share = starts.iter().filter(|start| **start == device).count() as f64 / 4000.0;
            assert!((share - 0.25).abs() < 0.03, "{share} of files start on device {device}");
        }
    }

    #[test]
    fn stripes_of_a_lost_device_spread_over_the_others_and_no_other_moves() {
        for lost in 0..4 {
            let mut moved_to = [0; 4];
            for stripe in 0..4000 {
                let before = layout(0).device_of(&[50; 4], 5, stripe).unwrap();
                let after = layout(0).usable_device_of(&[50; 4], |device| device != lost, 5, stripe).unwrap();
                assert!(before == after || before == lost);
                moved_to[after] += i32::from(before == lost);
            }
            assert_eq!(moved_to[lost], 0);
            assert!(moved_to.iter().filter(|count| **count > 300).count() == 3, "{moved_to:?}");
        }
    }

    #[test]
    fn without_usable_devices_there_is_no_place() {
        assert_eq!(layout(0).device_of(&[], 1, 0), None);
        assert_eq!(layout(0).usable_device_of(&[5, 5], |_| false, 1, 0), None);
    }

    proptest! {
        #[test]
        fn equal_devices_take_strict_turns(devices in 1usize..12, count in 0u8..12, seed: u64, from in 0u64..1 << 40) {
            let weights = vec![1000; devices];
            let spread = if count == 0 { devices } else { devices.min(count.into()) };
            let device = |stripe| layout(count).device_of(&weights, seed, stripe).unwrap();
            let round: Vec<usize> = (from..from + spread as u64).map(device).collect();
            let mut distinct = round.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), spread, "all devices of a file are busy at once");
            for stripe in 0..3 * spread as u64 {
                prop_assert_eq!(device(from + stripe), round[stripe as usize % spread]);
            }
        }

        #[test]
        fn a_file_has_as_many_devices_as_its_layout_says(
            weights in prop::collection::vec(500u64..2000, 1..8),
            count in 1u8..10,
            seed: u64,
        ) {
            prop_assert_eq!(devices_of(layout(count), &weights, seed).len(), weights.len().min(count.into()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn shares_follow_capacity_whatever_the_count(weights in prop::collection::vec(100u64..1000, 1..7), count in 0u8..7) {
            let total: u64 = weights.iter().sum();
            for (weight, share) in weights.iter().zip(measured(layout(count), &weights, |_| true)) {
                let due = *weight as f64 / total as f64;
                prop_assert!((share - due).abs() < 0.04, "{share:.3} instead of {due:.3} with {weights:?}");
            }
        }
    }
}
