//! Random operations; whatever two snapshots (and the tree as it is) differ in is told by their diff, and nothing else is.
//!
//! Each tree is copied when its snapshot is taken, with what files hold kept beside the store. A diff is applied to the first copy and has to give the second.

use super::content::{BLOCK, block, content};
use super::snapshots::{entries, pick, reclaim};
use super::*;
use crate::ids::{BlockId, BlockIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a block holds; zeros are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Written(u8),
    Object(String, u64),
}

impl Held {
    fn id(&self) -> BlockId {
        match self {
            Held::Written(what) => block(*what),
            Held::Object(etag, index) => BlockId::of(format!("{etag} {index}").as_bytes()),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bytes {
    size: u64,
    blocks: BTreeMap<u64, Held>,
}

/// Something in a copy of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    ino: Ino,
    kind: FileKind,
    content: (Bytes, Option<Vec<u8>>),
    attributes: (u16, u32, u32, Option<i64>),
    xattrs: Vec<Option<Vec<u8>>>,
    times: (i64, i64),
    has_object: bool,
}

type Tree = BTreeMap<Vec<u8>, Node>;

#[derive(Clone, Debug)]
enum Step {
    Take(Option<u8>),
    Delete(u8),
    Create(u8, u8),
    MakeDirectory(u8, u8),
    MakeSymlink(u8, u8, u8),
    Link(u8, u8, u8),
    Write(u8, u8, u8),
    Cut(u8),
    Rename(u8, u8, u8, bool),
    Remove(u8),
    SetAttribute(u8, u8),
    Chmod(u8, u8),
    Touch(u8),
    Export(u8),
    Cache(u8, u8),
    Release(u8),
    List(u8),
    Free,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<u8>;
    let step = prop_oneof![
        3 => prop::option::weighted(0.3, any()).prop_map(Step::Take),
        1 => any().prop_map(Step::Delete),
        3 => (any(), any()).prop_map(|(dir, name)| Step::Create(dir, name)),
        3 => (any(), any()).prop_map(|(dir, name)| Step::MakeDirectory(dir, name)),
        1 => (any(), any(), any()).prop_map(|(dir, name, target)| Step::MakeSymlink(dir, name, target)),
        2 => (any(), any(), any()).prop_map(|(file, dir, name)| Step::Link(file, dir, name)),
        4 => (any(), any(), any()).prop_map(|(file, at, what)| Step::Write(file, at, what)),
        1 => any().prop_map(Step::Cut),
        5 => (any(), any(), any(), any()).prop_map(|(what, dir, name, how)| Step::Rename(what, dir, name, how % 2 == 1)),
        3 => any().prop_map(Step::Remove),
        1 => (any(), any()).prop_map(|(what, value)| Step::SetAttribute(what, value)),
        1 => (any(), any()).prop_map(|(what, perm)| Step::Chmod(what, perm)),
        1 => any().prop_map(Step::Touch),
        2 => any().prop_map(Step::Export),
        2 => (any(), any()).prop_map(|(file, at)| Step::Cache(file, at)),
        1 => any().prop_map(Step::Release),
        2 => any().prop_map(Step::List),
        1 => Just(Step::Free),
    ];
    prop::collection::vec(step, 1..70)
}

struct World {
    store: MetaStore,
    now_ns: i64,
    bytes: BTreeMap<Ino, Bytes>,
    bucket: Ino,
    kept: BTreeMap<String, (SnapshotRow, Tree)>,
}

impl World {
    fn new() -> Self {
        let store = in_memory();
        merge(&store, Ino::ROOT, &[prefix("bucket")]);
        let bucket = ino_of(&store, Ino::ROOT, "bucket");
        World { store, now_ns: NOW, bytes: BTreeMap::new(), bucket, kept: BTreeMap::new() }
    }

    fn row(&self, ino: Ino) -> Inode {
        self.store.inode(ino).expect("reads").expect("is there")
    }

    /// A copy of what is below a directory.
    fn copy(&self, root: Ino) -> Tree {
        let (mut all, mut left) = (Tree::new(), vec![(Vec::new(), root)]);
        while let Some((path, dir)) = left.pop() {
            for (name, ino, row) in self.store.read_dir(dir, None, usize::MAX).expect("reads") {
                let path = if path.is_empty() { name } else { [path.as_slice(), &name].join(&b'/') };
                let names = self.store.xattr_names(ino).expect("reads");
                let xattrs = names.into_iter().map(|name| self.store.xattr(ino, &name).expect("reads")).collect();
                let is_directory = row.kind == FileKind::Directory;
                let node = Node {
                    ino,
                    kind: row.kind,
                    content: (self.bytes.get(&ino).cloned().unwrap_or_default(), self.store.symlink_target(ino).expect("reads")),
                    attributes: (row.perm, row.uid, row.gid, (!is_directory).then_some(row.mtime_ns)),
                    xattrs,
                    times: (row.mtime_ns, row.ctime_ns),
                    has_object: row.origin.is_some(),
                };
                if is_directory {
                    left.push((path.clone(), ino));
                }
                all.insert(path, node);
            }
        }
        all
    }

    fn path_of(&self, ino: Ino) -> Option<String> {
        let (mut path, mut at) = (String::new(), ino);
        while at != Ino::ROOT {
            let link = self.row(at).link?;
            let name = String::from_utf8(link.name).expect("text");
            path = if path.is_empty() { name } else { format!("{name}/{path}") };
            at = link.parent;
        }
        Some(path)
    }

    fn dirs(&self) -> Vec<Ino> {
        let all = entries(&self.store);
        let dirs = all.iter().filter(|entry| entry.3 == FileKind::Directory).map(|entry| entry.2);
        [Ino::ROOT].into_iter().chain(dirs).collect()
    }

    fn files(&self) -> Vec<Ino> {
        entries(&self.store).iter().filter(|entry| entry.3 == FileKind::File).map(|entry| entry.2).collect()
    }

    fn file(&self, by: u8) -> Option<Ino> {
        pick(&self.files(), by).copied()
    }

    fn dir(&self, by: u8) -> Ino {
        *pick(&self.dirs(), by).expect("the root")
    }

    fn create(&self, dir: u8, name: u8, kind: FileKind, target: &[u8]) {
        let node = NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target };
        drop(self.store.create(self.dir(dir), &name_of(name), node, self.now_ns));
    }

    fn write(&mut self, ino: Ino, index: u64, what: u8) {
        let row = self.row(ino);
        let base = row.origin.as_ref().map_or(0, |_| row.base.unwrap_or(row.size));
        let size = row.size.max((index + 1) * BLOCK);
        let held = Held::Written(what);
        let written = FileContent {
            base,
            mtime_ns: Some(self.now_ns),
            ctime_ns: self.now_ns,
            ..content(ino, size, vec![(index, Content::Block(held.id()))])
        };
        self.store.write_content(&[written]).expect("writes");
        let bytes = self.bytes.entry(ino).or_default();
        bytes.size = size;
        bytes.blocks.insert(index, held);
    }

    fn export(&self, ino: Ino) {
        let (row, etag) = (self.row(ino), format!("sent at {}", self.now_ns));
        let (Some(link), Some(path), 1) = (row.link, self.path_of(ino), row.nlink) else { return };
        let generation = self.store.change_of(ino).expect("reads").map_or(0, |change| change.generation);
        let (origin, path) = (origin(&path, &etag), path.into_bytes());
        let sent = Sent { ino, generation, link, origin, path, further: Vec::new(), is_listed: true, is_clean: true };
        self.store.exported(&sent).expect("records");
    }

    fn cache(&self, ino: Ino, index: u64) {
        let Some(bytes) = self.bytes.get(&ino).filter(|bytes| index * BLOCK < bytes.size) else { return };
        if self.row(ino).origin.is_some() {
            let zeros = || BlockId::of(&vec![0; BLOCK as usize]);
            let id = bytes.blocks.get(&index).map_or_else(zeros, Held::id);
            self.store.map_blocks(&[(ino, BlockIndex(index), id)]).expect("maps");
        }
    }

    /// The bucket has other objects now.
    fn list(&mut self, which: u8) {
        let object = |name: &str, version: u8| {
            let etag = format!("{name} {version}");
            let node = ListedNode::File { size: 2 * BLOCK, modified_ns: 5, origin: origin(name, &etag) };
            ListedEntry { name: name.into(), node }
        };
        let mut listed: Vec<_> = ["o0", "o1", "o2"].iter().zip([0, 2, 4]).map(|(name, bit)| (name, which >> bit & 3)).collect();
        listed.retain(|(_, version)| *version > 0);
        let mut listed: Vec<_> = listed.into_iter().map(|(name, version)| object(name, version)).collect();
        if which & 64 != 0 {
            listed.push(prefix("sub"));
        }
        self.merge(self.bucket, &listed);
        if let Some(sub) = self.store.lookup(self.bucket, b"sub").expect("reads").filter(|sub| sub.kind == FileKind::Directory) {
            self.merge(sub.ino, &[object("deep", which >> 7), prefix("deeper")]);
        }
    }

    fn merge(&mut self, dir: Ino, listed: &[ListedEntry]) {
        if self.store.inode(dir).expect("reads").is_none() {
            return;
        }
        self.store.merge_listing(dir, (None, None), listed, None, self.now_ns).expect("merges");
        for (_, ino, row) in self.store.read_dir(dir, None, usize::MAX).expect("reads") {
            let Some(origin) = row.origin.filter(|origin| row.kind == FileKind::File && !origin.etag.starts_with("sent")) else {
                continue;
            };
            let held = |index| (index, Held::Object(origin.etag.clone(), index));
            self.bytes.entry(ino).or_insert_with(|| Bytes { size: row.size, blocks: (0..2).map(held).collect() });
        }
    }

    fn step(&mut self, step: &Step) {
        self.now_ns += 1;
        let now_ns = self.now_ns;
        let all = entries(&self.store);
        // Refusals (names that exist, directories that are not empty) are as good as steps.
        match *step {
            Step::Take(of) => {
                let root = of.map_or(Ino::ROOT, |dir| self.dir(dir));
                let name = format!("s{now_ns}");
                let row = self.store.take_snapshot(name.as_bytes(), root, b"", now_ns).expect("takes");
                self.kept.insert(name, (row, self.copy(root)));
            }
            Step::Delete(which) => {
                let names: Vec<String> = self.kept.keys().cloned().collect();
                let Some(name) = pick(&names, which) else { return };
                self.kept.remove(name);
                self.store.delete_snapshot(name.as_bytes()).expect("deletes");
                reclaim(&self.store);
            }
            Step::Create(dir, name) => self.create(dir, name, FileKind::File, b""),
            Step::MakeDirectory(dir, name) => self.create(dir, name, FileKind::Directory, b""),
            Step::MakeSymlink(dir, name, target) => self.create(dir, name, FileKind::Symlink, &name_of(target)),
            Step::Link(file, dir, name) => {
                // A listing takes an object's own name away whatever other names it has.
                if let Some(ino) = self.file(file).filter(|ino| self.row(*ino).origin.is_none()) {
                    drop(self.store.link(ino, self.dir(dir), &name_of(name), now_ns));
                }
            }
            Step::Write(file, at, what) => {
                if let Some(ino) = self.file(file) {
                    self.write(ino, u64::from(at % 4), what % 6);
                }
            }
            Step::Cut(file) => {
                let Some(ino) = self.file(file) else { return };
                self.store.cut_content(ino, BLOCK, 0, BLOCK, now_ns).expect("cuts");
                if let Some(bytes) = self.bytes.get_mut(&ino) {
                    bytes.size = bytes.size.min(BLOCK);
                    bytes.blocks.retain(|index, _| *index == 0);
                }
            }
            Step::Rename(what, dir, name, exchange) => {
                if let Some((parent, from, ..)) = pick(&all, what) {
                    let mode = if exchange { RenameMode::Exchange } else { RenameMode::Replace };
                    let to = self.dir(dir);
                    let name = name_of(name);
                    drop(self.store.rename((*parent, from), (to, &name), mode, &|_| Some("p/".into()), now_ns));
                }
            }
            Step::Remove(what) => match pick(&all, what) {
                Some((parent, name, _, FileKind::Directory)) => drop(self.store.rmdir(*parent, name, &|_| None, now_ns)),
                Some((parent, name, ..)) => drop(self.store.unlink(*parent, name, now_ns)),
                None => {}
            },
            Step::SetAttribute(what, value) => {
                if let Some((_, _, ino, _)) = pick(&all, what) {
                    self.store.set_xattr(*ino, b"user.a", &[value % 3], SetMode::Either, now_ns).expect("sets");
                }
            }
            Step::Chmod(what, perm) => {
                if let Some((_, _, ino, _)) = pick(&all, what) {
                    let change = |row: &mut Inode| (row.perm, row.ctime_ns) = ((perm % 3).into(), now_ns);
                    self.store.update_inode(*ino, &change).expect("changes");
                }
            }
            Step::Touch(what) => {
                if let Some((_, _, ino, _)) = pick(&all, what) {
                    self.store.update_inode(*ino, &|row| (row.mtime_ns, row.ctime_ns) = (NOW, now_ns)).expect("changes");
                }
            }
            Step::Export(file) => self.file(file).into_iter().for_each(|ino| self.export(ino)),
            Step::Cache(file, at) => self.file(file).into_iter().for_each(|ino| self.cache(ino, u64::from(at % 4))),
            Step::Release(file) => {
                self.file(file).into_iter().for_each(|ino| drop(self.store.let_go_of_cached(ino).expect("lets go")));
            }
            Step::List(which) => self.list(which),
            Step::Free => {
                self.store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
            }
        }
    }

    /// Every snapshot against every other of its directory, and against the present.
    fn check(&self) {
        assert_eq!(self.store.check().expect("reads"), []);
        let there = self.dirs();
        for (one, was) in self.kept.values() {
            for (other, is) in self.kept.values().filter(|(other, _)| other.root == one.root) {
                explain(&self.store.diff(one, Some(other)).expect("compares"), was, is);
            }
            match self.store.diff(one, None) {
                Ok(diff) => {
                    assert!(there.contains(&one.root), "it is gone");
                    explain(&diff, was, &self.copy(one.root));
                }
                Err(error) => {
                    assert!(matches!(error, MetaError::Refused(Refusal::NotDirectory)), "{error}");
                    assert!(!there.contains(&one.root), "it is there");
                }
            }
        }
    }
}

fn name_of(n: u8) -> Vec<u8> {
    format!("n{}", n % 5).into_bytes()
}

/// A diff says what there is to be said of two trees, and nothing else.
fn explain(diff: &[Difference], was: &Tree, is: &Tree) {
    let context = || format!("\n{diff:#?}\n was {was:#?}\n is {is:#?}");
    assert!(diff.is_sorted_by(|a, b| (&a.path, &a.differs) < (&b.path, &b.differs)), "in order, and each once{}", context());
    let paths = |differs: Differs| -> BTreeSet<&[u8]> {
        diff.iter().filter(|one| one.differs == differs).map(|one| one.path.as_slice()).collect()
    };
    let (added, removed) = (paths(Differs::Added), paths(Differs::Removed));
    let (mut changed, mut attributes) = (paths(Differs::Content), paths(Differs::Attributes));
    let renamed: BTreeMap<&[u8], &[u8]> = diff
        .iter()
        .filter_map(|one| match &one.differs {
            Differs::Renamed { from } => Some((from.as_slice(), one.path.as_slice())),
            _ => None,
        })
        .collect();
    // Where each thing of the first tree is in the second.
    let mut moved: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    let mut explained: BTreeMap<Vec<u8>, &Node> = BTreeMap::new();
    for (path, node) in was {
        if removed.contains(path.as_slice()) {
            assert!(!renamed.contains_key(path.as_slice()), "{path:?} is told of twice{}", context());
            continue;
        }
        let to = match (renamed.get(path.as_slice()), path.iter().rposition(|byte| *byte == b'/')) {
            (Some(to), _) => to.to_vec(),
            (None, None) => path.clone(),
            (None, Some(at)) => {
                let above = moved.get(&path[..at]).unwrap_or_else(|| panic!("what became of {path:?}?{}", context()));
                [above.as_slice(), &path[at + 1..]].join(&b'/')
            }
        };
        assert!(explained.insert(to.clone(), node).is_none(), "two things at {to:?}{}", context());
        moved.insert(path, to);
    }
    let there: BTreeSet<&[u8]> = explained.keys().map(Vec::as_slice).chain(added.iter().copied()).collect();
    assert_eq!(there, is.keys().map(Vec::as_slice).collect(), "{}", context());
    assert_eq!(there.len(), explained.len() + added.len(), "what is added was not there{}", context());
    for one in diff {
        let tree = if one.differs == Differs::Removed { was } else { is };
        assert_eq!(tree.get(&one.path).map(|node| node.kind), Some(one.kind), "{one:?}{}", context());
    }
    for (path, before) in &explained {
        let after = &is[path];
        let is_one = before.ino == after.ino;
        assert!(is_one || !renamed.values().any(|to| to == path), "{path:?} was renamed from something else{}", context());
        assert_eq!(before.kind, after.kind, "{path:?}{}", context());
        let is_told = changed.remove(path.as_slice());
        if before.content != after.content {
            assert!(is_told, "the content of {path:?} differs{}", context());
        } else if is_told {
            // Only objects can hide that they are the same.
            assert!(before.has_object || after.has_object, "the content of {path:?} is the same{}", context());
            assert!(!is_one || before.times != after.times, "nobody wrote to {path:?}{}", context());
        }
        let are_told = attributes.remove(path.as_slice());
        let is_same = (before.attributes, &before.xattrs) == (after.attributes, &after.xattrs);
        assert_eq!(are_told, !is_same && !is_told, "attributes of {path:?}{}", context());
    }
    assert!(changed.is_empty() && attributes.is_empty(), "told of what was added{}", context());
}

proptest! {
    #[test]
    fn a_diff_explains_what_two_trees_differ_in_and_tells_nothing_else(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            if matches!(step, Step::Delete(_)) {
                // What went with it is not missing between its neighbours.
                world.check();
            }
        }
        world.check();
    }
}
