//! Frames that reclaim moves, and their flags.

use super::*;

/// Whether the frame's own header says that it exists only here.
fn frame_says_held(store: &BlockStore, plain: &[u8]) -> bool {
    let core = store.core();
    let entry = core.index.get(BlockId::of(plain).fingerprint()).expect("stored");
    let (disk, segment) = core.locate(entry.segment).expect("on some device");
    let offset = disk.offset(segment, entry.frame.header_sector());
    let sector = crate::io::read_blocking(&**core.array.device(disk.id), &core.pool, offset, 4096).expect("a good device");
    let header = crate::format::ExtentHeader::decode(&sector).expect("intact");
    header.frame_at(entry.frame.grain).expect("there").local_only
}

#[test]
fn a_moved_frame_has_the_flag_of_its_entry() {
    let store = open(vec![memory(16)]);
    let (local, clean) = (noise(1, BLOCK), noise(2, BLOCK));
    let id = keep(&store, &local);
    put(&store, &clean);
    let before = [place_of(&store, &local), place_of(&store, &clean)];
    assert!(frame_says_held(&store, &local) && !frame_says_held(&store, &clean));
    store.release(id.fingerprint());
    assert!(store.hold(BlockId::of(&clean).fingerprint()));
    for seed in 10.. {
        // The released one is read, so that it moves as well.
        assert_holds(&store, std::slice::from_ref(&local));
        press(&store, seed);
        if place_of(&store, &local) != before[0] && place_of(&store, &clean) != before[1] {
            break;
        }
    }
    assert!(!is_held(&store, &local) && !frame_says_held(&store, &local));
    assert!(is_held(&store, &clean) && frame_says_held(&store, &clean));
    assert_sound(&store);
}

#[test]
fn a_flag_that_changes_while_the_frame_moves_is_not_undone() {
    for held_first in [true, false] {
        let device = Arc::new(FaultyDevice::new(memory(16)));
        let store = open(vec![device.clone()]);
        let plain = noise(1, BLOCK);
        let id = if held_first { keep(&store, &plain) } else { put(&store, &plain) };
        // Moved because it is held, or because it was read.
        let (_, at) = place_of(&store, &plain);
        assert!(fault(&store, &plain).is_none());
        device.script(FaultOp::Read, at..at + 1, When::Next, Fault::Hang);
        std::thread::scope(|scope| {
            scope.spawn(|| press(&store, 1));
            while device.struck() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Reclaim is reading the frame; what it decided by is out of date from here on.
            if held_first {
                store.release(id.fingerprint())
            } else {
                assert!(store.hold(id.fingerprint()))
            }
            device.release();
        });
        assert_ne!(place_of(&store, &plain).1, at);
        assert_eq!(is_held(&store, &plain), !held_first);
        assert_holds(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn reclaim_works_around_a_damaged_held_block() {
    let device = memory(8);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let at = place_of(&store, &plain);
    device.corrupt(at.1 + 500, |byte| *byte ^= 4);
    press(&store, 1);
    press(&store, 2);
    assert_eq!(place_of(&store, &plain), at, "what is damaged is not moved");
    assert!(is_held(&store, &plain));
    assert_sound(&store);
}
