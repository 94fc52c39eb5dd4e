//! Random operations against a plain count of who uses what.

use super::quota::{BLOCK, make, write};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Op {
    Make { dir: usize, kind: u8, uid: u32 },
    Write { node: usize, size: u64, blocks: Vec<u64> },
    Cut { node: usize, size: u64 },
    Own { node: usize, uid: u32, gid: u32 },
    Move { node: usize, dir: usize },
    Link { node: usize, dir: usize },
    Unlink { node: usize },
    Free,
    Project { dir: usize, on: bool },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..100usize;
    let size = prop_oneof![0..5 * BLOCK, (60..70u64).prop_map(|block| block * BLOCK + 77)];
    let blocks = proptest::collection::btree_set(prop_oneof![0..5u64, 60..70u64], 0..4);
    prop_oneof![
        5 => (which.clone(), 0..6u8, 1..4u32).prop_map(|(dir, kind, uid)| Op::Make { dir, kind, uid }),
        5 => (which.clone(), size.clone(), blocks)
            .prop_map(|(node, size, blocks)| Op::Write { node, size, blocks: blocks.into_iter().collect() }),
        2 => (which.clone(), size).prop_map(|(node, size)| Op::Cut { node, size }),
        2 => (which.clone(), 1..4u32, 1..4u32).prop_map(|(node, uid, gid)| Op::Own { node, uid, gid }),
        4 => (which.clone(), which.clone()).prop_map(|(node, dir)| Op::Move { node, dir }),
        2 => (which.clone(), which.clone()).prop_map(|(node, dir)| Op::Link { node, dir }),
        3 => which.clone().prop_map(|node| Op::Unlink { node }),
        1 => Just(Op::Free),
        2 => (which, any::<bool>()).prop_map(|(dir, on)| Op::Project { dir, on }),
        1 => Just(Op::Reopen),
    ]
}

struct Node {
    uid: u32,
    gid: u32,
    kind: FileKind,
    size: u64,
    blocks: BTreeSet<u64>,
    names: Vec<(Ino, String)>,
}

/// What there should be, counted from scratch whenever it is asked for.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<Ino, Node>,
    roots: BTreeSet<Ino>,
}

impl Model {
    fn directories(&self) -> Vec<Ino> {
        let made = self.nodes.iter().filter(|(_, node)| node.kind == FileKind::Directory && !node.names.is_empty());
        std::iter::once(Ino::ROOT).chain(made.map(|(ino, _)| *ino)).collect()
    }

    fn project(&self, store: &MetaStore, ino: Ino) -> Option<Ino> {
        let mut at = ino;
        loop {
            if self.roots.contains(&at) {
                return Some(at);
            }
            // Which of several names is the first is the store's choice.
            at = store.parent_of(at).expect("reads")?.0;
        }
    }

    fn usage(&self, store: &MetaStore) -> BTreeMap<QuotaId, (u64, u64)> {
        let mut usage: BTreeMap<QuotaId, (u64, u64)> = BTreeMap::new();
        for (ino, node) in &self.nodes {
            let bytes: u64 = node.blocks.iter().map(|index| (node.size - index * BLOCK).min(BLOCK).div_ceil(4096) * 4096).sum();
            let project = self.project(store, *ino).map(QuotaId::Project);
            for id in [Some(QuotaId::User(node.uid)), Some(QuotaId::Group(node.gid)), project].into_iter().flatten() {
                let sum = usage.entry(id).or_default();
                *sum = (sum.0 + bytes, sum.1 + 1);
            }
        }
        usage
    }

    fn cut(&mut self, ino: Ino, size: u64) {
        let node = self.nodes.get_mut(&ino).expect("is there");
        node.size = node.size.min(size);
        node.blocks.retain(|index| index * BLOCK < size);
    }
}

fn apply(store: &MetaStore, model: &mut Model, step: usize, op: Op) {
    let directories = model.directories();
    let named: Vec<Ino> = model.nodes.iter().filter(|(_, node)| !node.names.is_empty()).map(|(ino, _)| *ino).collect();
    let pick = |n: usize| named.get(n % named.len().max(1)).copied();
    let file = |model: &Model, n: usize| pick(n).filter(|ino| model.nodes[ino].kind == FileKind::File);
    let dir = |n: usize| directories[n % directories.len()];
    let name = format!("n{step}");
    match op {
        Op::Make { dir: at, kind, uid } => {
            let kinds =
                [FileKind::File, FileKind::File, FileKind::File, FileKind::Directory, FileKind::Directory, FileKind::Symlink];
            let kind = kinds[usize::from(kind)];
            let ino = make(store, dir(at), &name, kind, (uid, uid)).expect("makes");
            let names = vec![(dir(at), name)];
            model.nodes.insert(ino, Node { uid, gid: uid, kind, size: 0, blocks: BTreeSet::new(), names });
        }
        Op::Write { node, size, blocks } => {
            let Some(ino) = file(model, node) else { return };
            let node = model.nodes.get_mut(&ino).expect("is there");
            node.size = node.size.max(size);
            let blocks: Vec<u64> = blocks.into_iter().filter(|index| index * BLOCK < node.size).collect();
            write(store, ino, node.size, &blocks, Reservation::default());
            node.blocks.extend(blocks);
        }
        Op::Cut { node, size } => {
            let Some(ino) = file(model, node) else { return };
            if size < model.nodes[&ino].size {
                store.cut_content(ino, size, 0, BLOCK, NOW).expect("cuts");
                model.cut(ino, size);
            }
        }
        Op::Own { node, uid, gid } => {
            let Some(ino) = pick(node) else { return };
            store.update_inode(ino, &|row| (row.uid, row.gid) = (uid, gid)).expect("gives away");
            let node = model.nodes.get_mut(&ino).expect("is there");
            (node.uid, node.gid) = (uid, gid);
        }
        Op::Move { node, dir: to } => {
            let Some(ino) = pick(node) else { return };
            let from = model.nodes[&ino].names[0].clone();
            let moved =
                store.rename((from.0, from.1.as_bytes()), (dir(to), name.as_bytes()), RenameMode::Replace, &|_| None, NOW);
            match moved {
                Ok(_) => model.nodes.get_mut(&ino).expect("is there").names[0] = (dir(to), name),
                Err(MetaError::Refused(Refusal::Invalid(_))) => {}
                Err(other) => panic!("{other}"),
            }
        }
        Op::Link { node, dir: at } => {
            let Some(ino) = file(model, node) else { return };
            store.link(ino, dir(at), name.as_bytes(), NOW).expect("links");
            model.nodes.get_mut(&ino).expect("is there").names.push((dir(at), name));
        }
        Op::Unlink { node } => {
            let Some(ino) = pick(node) else { return };
            let (parent, name) = model.nodes[&ino].names[0].clone();
            if model.nodes[&ino].kind == FileKind::Directory {
                if store.rmdir(parent, name.as_bytes(), &|_| None, NOW).is_err() {
                    return;
                }
            } else {
                store.unlink(parent, name.as_bytes(), NOW).expect("unlinks");
            }
            let node = model.nodes.get_mut(&ino).expect("is there");
            node.names.remove(0);
            if node.names.is_empty() {
                // In the model what is gone is gone.
                store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
                model.nodes.remove(&ino);
                model.roots.remove(&ino);
            }
        }
        Op::Free => drop(store.free_orphans(&|_| false, &mut |_| {}).expect("frees")),
        Op::Project { dir: at, on } => {
            let hard = if on { 1 << 40 } else { 0 };
            store.set_quota(QuotaId::Project(dir(at)), &|limits| limits.bytes.hard = hard, NOW).expect("sets");
            if on {
                model.roots.insert(dir(at))
            } else {
                model.roots.remove(&dir(at))
            };
        }
        Op::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn usage_is_what_a_plain_count_says_whatever_happens(ops in proptest::collection::vec(op(), 1..60), first in 0..40usize) {
        let engine = MemoryEngine::default();
        let (mut store, mut model) = (on(engine.clone()), Model::default());
        for (step, op) in ops.into_iter().enumerate() {
            if step == first {
                store.set_quota(QuotaId::User(1), &|limits| limits.inodes.hard = 1_000_000, NOW).expect("sets");
            }
            if matches!(op, Op::Reopen) {
                store = on(engine.clone());
            }
            apply(&store, &mut model, step, op);
            if store.has_quotas() {
                let shown = store.all_quotas(NOW).into_iter().filter(|quota| quota.used != Usage::default());
                let shown: BTreeMap<_, _> = shown.map(|quota| (quota.id, (quota.used.bytes, quota.used.inodes))).collect();
                prop_assert_eq!(shown, model.usage(&store));
                prop_assert_eq!(store.check_quotas().expect("reads"), []);
            }
        }
    }
}
