//! Devices full of held blocks, and how much room there is before.

use super::*;
use std::time::Instant;

/// Puts held blocks until there is no space; returns those that were stored, and how long the refusal took.
fn fill_up(store: &BlockStore, seed: u64) -> (Vec<Vec<u8>>, Duration) {
    let mut stored = Vec::new();
    for at in 0.. {
        let plain = noise(seed * 100_000 + at, BLOCK);
        let before = Instant::now();
        match try_put_local(store, &plain) {
            Ok(id) => store.keep(&id),
            Err(error) => {
                assert!(matches!(error, PutError::NoSpace), "{error:?}");
                return (stored, before.elapsed());
            }
        }
        stored.push(plain);
    }
    unreachable!("a device has an end")
}

#[test]
fn a_device_full_of_held_blocks_says_so_at_once_and_goes_on_after_releases() {
    let store = open(vec![memory(16)]);
    for round in 0..3 {
        let (held, took) = fill_up(&store, round);
        assert!(held.len() > 16 * 8 / 2, "only {} blocks fit", held.len());
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(matches!(try_put(&store, &noise(77_777, BLOCK)), Err(PutError::NoSpace)), "clean blocks find no space either");
        assert_eq!(store.room_for_local(), 0);
        // Reclaim has come to rest: nothing is moved about.
        let places: Vec<_> = held.iter().map(|plain| place_of(&store, plain)).collect();
        std::thread::sleep(Duration::from_millis(300));
        assert!(places == held.iter().map(|plain| place_of(&store, plain)).collect::<Vec<_>>());
        assert_holds(&store, &held);
        assert_sound(&store);
        held.iter().for_each(|plain| store.release(BlockId::of(plain).fingerprint()));
        assert_eq!(store.stats().held_bytes, 0);
    }
    press(&store, 1);
    assert_sound(&store);
}

#[test]
fn many_puts_into_a_full_store_are_refused_quickly() {
    let store = open(vec![memory(16), memory(16)]);
    fill_up(&store, 1);
    let before = Instant::now();
    let answers: Vec<_> = (0..200).map(|at| start_put_local(&store, &noise(at, BLOCK), 0)).collect();
    for answer in answers {
        assert!(matches!(answer.recv().expect("answered"), Err(PutError::NoSpace)));
    }
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
}

#[test]
fn scattered_releases_make_room() {
    let store = open(vec![memory(16)]);
    let (held, _) = fill_up(&store, 1);
    let (gone, stay): (Vec<_>, Vec<_>) = held.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    gone.iter().for_each(|(_, plain)| store.release(BlockId::of(plain).fingerprint()));
    let (more, _) = fill_up(&store, 2);
    assert!(more.len() * 2 > gone.len(), "{} blocks were released and {} fit", gone.len(), more.len());
    assert_holds(&store, &more);
    assert_holds(&store, &stay.into_iter().map(|(_, plain)| plain.clone()).collect::<Vec<_>>());
    assert_sound(&store);
}

#[test]
fn what_room_for_local_promises_is_kept() {
    for (mib, kind) in [(16, 0), (24, 1), (16, 2), (16, 3)] {
        let store = open(vec![memory(mib)]);
        press(&store, 1);
        let mut random = StdRng::seed_from_u64(mib + kind);
        let (mut kept, mut promised) = (Vec::new(), store.room_for_local());
        assert!(promised > mib * MIB / 3, "{promised} of {mib} MiB");
        for at in 0u64.. {
            let plain = match kind {
                0 => noise(at, BLOCK),
                1 => noise(at, random.random_range(1..=BLOCK)),
                2 => noise(at, random.random_range(1..9000)),
                _ => text(at, random.random_range(1..=BLOCK)),
            };
            // What a block may take with headers and gaps.
            if promised < (BLOCK + BLOCK / 8) as u64 {
                break;
            }
            keep(&store, &plain);
            promised = store.room_for_local();
            kept.push(plain);
        }
        assert_holds(&store, &kept);
        assert_sound(&store);
    }
}

#[test]
fn devices_out_of_service_leave_no_room() {
    let bad = Arc::new(FaultyDevice::new(memory(64)));
    let (array, store) = open_array(vec![memory(64), bad.clone()]);
    let both = store.room_for_local();
    let blocks: Vec<Vec<u8>> = (0..2).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bad.set_offline(true);
    while array.in_service(DeviceId(1)) {
        let _ = fault(&store, &blocks[1]);
    }
    assert!(store.room_for_local() <= both / 2);
}
