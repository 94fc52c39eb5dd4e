use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Split(usize, usize),
    Unsplit(usize),
    Truncate(usize, usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        (0usize..300_000).prop_map(Step::Alloc),
        (0usize..20_000).prop_map(Step::Alloc),
        (any(), any()).prop_map(|(which, at)| Step::Split(which, at)),
        any().prop_map(Step::Unsplit),
        (any(), any()).prop_map(|(which, len)| Step::Truncate(which, len)),
        any().prop_map(Step::Drop),
    ]
}

/// Buffers, each sector of which carries its owner's mark, so that an overlap shows as a foreign mark.
#[derive(Default)]
struct Marked {
    parts: Vec<(IoBuf, u8)>,
    next: u8,
}

impl Marked {
    fn add(&mut self, mut buf: IoBuf) {
        self.next = self.next.wrapping_add(1);
        buf.iter_mut().step_by(SECTOR).for_each(|byte| *byte = self.next);
        self.parts.push((buf, self.next));
    }

    fn take(&mut self, which: usize) -> Option<IoBuf> {
        (!self.parts.is_empty()).then(|| self.parts.swap_remove(which % self.parts.len()).0)
    }

    fn apply(&mut self, pool: &BufferPool, step: Step) {
        match step {
            Step::Alloc(len) => self.add(pool.alloc(len)),
            Step::Drop(which) => drop(self.take(which)),
            Step::Truncate(which, len) => {
                if let Some(mut buf) = self.take(which) {
                    buf.truncate(len % (buf.len() / SECTOR + 1) * SECTOR);
                    self.add(buf);
                }
            }
            Step::Split(which, at) => {
                if let Some(mut front) = self.take(which) {
                    let back = front.split_off(at % (front.len() / SECTOR + 1) * SECTOR);
                    self.add(front);
                    self.add(back);
                }
            }
            Step::Unsplit(which) => self.unsplit(which),
        }
    }

    fn unsplit(&mut self, which: usize) {
        let Some(mut front) = self.take(which) else { return };
        let end = front.start.as_ptr() as usize + front.len;
        let follows = |(part, _): &(IoBuf, u8)| Arc::ptr_eq(&part.home, &front.home) && part.start.as_ptr() as usize == end;
        if let Some(at) = self.parts.iter().position(follows) {
            front.unsplit(self.parts.swap_remove(at).0);
        }
        self.add(front);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn parts_never_overlap_and_all_memory_comes_back(steps in prop::collection::vec(step(), 1..120)) {
        let pool = BufferPool::new(2 << 20);
        let mut marked = Marked::default();
        for step in steps {
            marked.apply(&pool, step);
            for (buf, mark) in &marked.parts {
                prop_assert!(buf.iter().step_by(SECTOR).all(|byte| byte == mark));
                prop_assert!((buf.start.as_ptr() as usize).is_multiple_of(SECTOR) && buf.len().is_multiple_of(SECTOR));
            }
        }
        drop(marked);
        let stats = pool.stats();
        prop_assert_eq!((stats.arena_in_use_bytes, stats.heap_in_use_bytes), (0, 0));
    }
}

#[test]
fn a_class_is_served_again_after_another_used_up_the_arena() {
    let pool = BufferPool::new(4 << 20);
    let small: Vec<_> = (0..1024).map(|_| pool.alloc(SECTOR)).collect();
    assert_eq!(pool.alloc(1 << 20).registered_index(), None, "the arena is used up");
    drop(small);
    let large: Vec<_> = (0..4).map(|_| pool.alloc(1 << 20)).collect();
    assert!(large.iter().all(|buf| buf.registered_index() == Some(0)));
}

#[test]
fn the_heap_takes_over_and_is_counted() {
    let pool = BufferPool::new(64 << 10);
    let held = pool.alloc(64 << 10);
    let extra = pool.alloc(8 << 10);
    let stats = pool.stats();
    assert_eq!((stats.arena_in_use_bytes, stats.heap_in_use_bytes, stats.heap_allocations), (64 << 10, 8 << 10, 1));
    drop((held, extra));
    assert_eq!(pool.stats().heap_in_use_bytes, 0);
}

#[test]
fn only_the_sectors_asked_for_are_taken() {
    let pool = BufferPool::new(1 << 20);
    let _frame = pool.alloc((128 << 10) + 1);
    assert_eq!(pool.stats().arena_in_use_bytes, 132 << 10);
}

#[test]
fn an_allocation_outlives_its_pool_and_all_but_its_last_part() {
    let pool = BufferPool::new(1 << 20);
    let mut front = pool.alloc(8 << 10);
    front.fill(7);
    let back = front.split_off(4 << 10);
    drop(front);
    assert_eq!(pool.stats().arena_in_use_bytes, 8 << 10);
    drop(pool);
    let bytes = bytes::Bytes::from_owner(back);
    assert!(bytes.iter().all(|byte| *byte == 7));
}

#[test]
fn threads_share_a_pool() {
    let pool = BufferPool::new(1 << 20);
    std::thread::scope(|scope| {
        for mark in 0..4u8 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..2000usize {
                    let mut buf = pool.alloc((round * 7919) % 70_000);
                    buf.fill(mark);
                    assert!(buf.iter().all(|byte| *byte == mark));
                }
            });
        }
    });
    assert_eq!(pool.stats().arena_in_use_bytes, 0);
}

#[test]
fn regions_cover_the_arena() {
    let pool = BufferPool::new(3 << 20);
    let mut buf = pool.alloc(SECTOR);
    let regions = pool.regions();
    assert_eq!(regions.iter().map(|region| region.len).sum::<usize>(), 3 << 20);
    let at = buf.as_mut_ptr() as usize;
    assert!(regions[0].address <= at && at < regions[0].address + regions[0].len);
}

#[test]
#[should_panic(expected = "not neighbours")]
fn parts_join_only_in_order() {
    let mut front = BufferPool::new(0).alloc(8 << 10);
    let mut back = front.split_off(4 << 10);
    back.unsplit(front);
}
