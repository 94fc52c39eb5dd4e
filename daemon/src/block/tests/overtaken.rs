//! Reads that reclaim overtakes: the segment is used anew while the read is on its way.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};

#[test]
fn a_read_of_a_recycled_segment_is_missing_not_corrupt_and_never_wrong() {
    let device = Arc::new(FaultyDevice::new(memory(16)));
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    let (_, at) = place_of(&store, &plain);
    device.script(FaultOp::Read, at..at + BLOCK as u64, When::Next, Fault::Hang);
    let answer = start_read(&store, vec![want(&plain, 0, 4096)]);
    // Twice the device, so that the frame's place is written over. The block was touched by the read: it may move on to main once.
    for seed in 100..500 {
        put(&store, &noise(seed, BLOCK));
        if !store.contains(&BlockId::of(&plain)) && seed > 350 {
            break;
        }
    }
    device.release();
    match answer.recv().expect("answered") {
        Ok(bytes) => assert!(bytes == plain[..4096], "wrong bytes"),
        Err(faults) => assert!(matches!(faults[..], [(0, ReadFault::Missing(_))]), "{faults:?}"),
    }
    assert_eq!(store.stats().corrupt_blocks, 0);
    assert_sound(&store);
}
