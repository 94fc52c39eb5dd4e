//! Everything at once, with reclaim going on underneath.

use super::*;
use std::sync::atomic::AtomicU64;

/// Block number `at`: a mix of sizes and kinds, always the same for the same number.
fn block(at: u64) -> Vec<u8> {
    match at % 5 {
        0 => text(at, BLOCK),
        1 => noise(at, 1 + (at as usize * 31) % 5000),
        _ => noise(at, BLOCK - at as usize % 3 * 4096),
    }
}

#[test]
fn concurrent_puts_and_reads_over_a_full_cache_never_give_wrong_bytes() {
    let store = open(vec![memory(16), memory(24)]);
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, served) = (&store, &served);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(thread);
                for _ in 0..250 {
                    // Low numbers are hot.
                    let number = |random: &mut StdRng| random.random_range(0..400u64).min(random.random_range(0..400));
                    let plain = block(number(&mut random));
                    if random.random_bool(0.5) {
                        start_put(store, &plain, random.random_range(0..2)).recv().expect("answered").expect("stored");
                        continue;
                    }
                    let blocks: Vec<Vec<u8>> = (0..3).map(|_| block(number(&mut random))).collect();
                    if let Ok(bytes) = read(store, blocks.iter().map(|plain| whole(plain)).collect()) {
                        assert!(bytes == blocks.concat(), "a read gave wrong bytes");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(served.load(Ordering::Relaxed) > 20, "hardly any read was served");
    assert_eq!(store.stats().corrupt_blocks, 0);
    assert_sound(&store);
}
