//! Which operation comes next: mostly on what is there, now and then on what is not.

use super::Offered;
use super::model::{Kind, NodeId, Tree};
use super::operation::{Bytes, LARGEST_FILE, Operation, Renaming, Setting};
use rand::Rng;
use rand::rngs::StdRng;

/// Nodes beyond which more is removed than made.
const CROWDED: usize = 300;
/// How deep directories go.
const DEEPEST: usize = 5;
/// Handles that are held at a time.
const MOST_HELD: usize = 4;

/// One of the names entries may have; few, so that they meet.
fn name(rng: &mut StdRng) -> String {
    match rng.random_range(0..20) {
        0 => "ü-日本".to_owned(),
        1 => "n".repeat(255),
        2 => "with space\n".to_owned(),
        number => format!("n{number}"),
    }
}

/// The path of an entry: of one that is there, of one that may be, or (rarely) through one that is no directory.
fn path(rng: &mut StdRng, tree: &Tree) -> String {
    let (directory, there) = directory(rng, tree);
    let inside = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    if rng.random_range(0..100) == 0 {
        let through = there.iter().find(|(_, id)| matches!(tree.nodes()[id].kind, Kind::File(_)));
        let through = through.map_or("absent", |(name, _)| name);
        return inside(&format!("{through}/{}", name(rng)));
    }
    match there.len() {
        some if some > 0 && rng.random_range(0..10) < 7 => inside(&there[rng.random_range(0..some)].0),
        _ => inside(&name(rng)),
    }
}

/// Any directory, and its entries.
fn directory(rng: &mut StdRng, tree: &Tree) -> (String, Vec<(String, NodeId)>) {
    let all: Vec<NodeId> = tree.nodes().keys().copied().filter(|id| tree.entries(*id).is_some()).collect();
    let id = all[rng.random_range(0..all.len())];
    let entries = tree.entries(id).into_iter().flatten();
    (tree.path_of(id), entries.map(|(name, id)| (name.clone(), *id)).collect())
}

/// The path of something for which `wanted` holds, where a few tries find one.
fn path_where(rng: &mut StdRng, tree: &Tree, wanted: impl Fn(&Kind) -> bool) -> String {
    let mut chosen = path(rng, tree);
    for _ in 0..6 {
        if tree.find(&chosen).is_ok_and(|id| wanted(&tree.nodes()[&id].kind)) {
            break;
        }
        chosen = path(rng, tree);
    }
    chosen
}

fn file(rng: &mut StdRng, tree: &Tree) -> String {
    path_where(rng, tree, |kind| matches!(kind, Kind::File(_)))
}

fn offset(rng: &mut StdRng) -> u64 {
    let limit = [5000, 40_000, LARGEST_FILE / 2][rng.random_range(0..3)];
    let place = rng.random_range(0..limit);
    if rng.random() { place } else { place / 4096 * 4096 }
}

fn bytes(rng: &mut StdRng) -> Bytes {
    let most = [200, 5000, 70_000][rng.random_range(0..3)];
    Bytes { tag: rng.random(), length: rng.random_range(1..=most) }
}

fn mode(rng: &mut StdRng, directory: bool) -> u32 {
    // The owner keeps the right to go on, for runs without root.
    rng.random_range(0..=0o777) | if directory { 0o700 } else { 0o600 }
}

/// The next operation.
pub fn choose(rng: &mut StdRng, tree: &Tree, offered: Offered) -> Operation {
    match rng.random_range(0..100) {
        0..20 if tree.nodes().len() > CROWDED => remove(rng, tree),
        0..20 => make(rng, tree, offered),
        20..38 => change(rng, tree),
        38..50 => read(rng, tree),
        50..62 => rename(rng, tree, offered),
        62..71 => remove(rng, tree),
        71..80 => describe(rng, tree),
        80..88 if offered.xattrs => xattr(rng, tree),
        80..92 => Operation::Stat { path: path(rng, tree) },
        _ => hold(rng, tree),
    }
}

fn make(rng: &mut StdRng, tree: &Tree, offered: Offered) -> Operation {
    match rng.random_range(0..20) {
        0..9 => Operation::Create { path: path(rng, tree), mode: mode(rng, false) },
        9..14 => {
            let path = path(rng, tree);
            if path.matches('/').count() < DEEPEST {
                Operation::MakeDirectory { path, mode: mode(rng, true) }
            } else {
                Operation::Create { path, mode: mode(rng, false) }
            }
        }
        14..17 if offered.links => Operation::Link { from: path(rng, tree), to: path(rng, tree) },
        _ => Operation::Symlink { target: "t/".repeat(rng.random_range(1..400)), path: path(rng, tree) },
    }
}

fn change(rng: &mut StdRng, tree: &Tree) -> Operation {
    let path = file(rng, tree);
    match rng.random_range(0..20) {
        0..9 => Operation::Write { path, offset: offset(rng), bytes: bytes(rng) },
        9..14 => match tree.find(&path).map(|id| tree.attributes(id).size) {
            Ok(size) if size >= LARGEST_FILE / 2 => Operation::Truncate { path, size: 0 },
            _ => Operation::Append { path, bytes: bytes(rng) },
        },
        14..19 => Operation::Truncate { path, size: offset(rng) },
        _ => Operation::Sync { path },
    }
}

fn read(rng: &mut StdRng, tree: &Tree) -> Operation {
    match rng.random_range(0..10) {
        0..6 => Operation::Read { path: file(rng, tree), offset: offset(rng), length: rng.random_range(1..100_000) },
        6..8 => Operation::ReadLink { path: path_where(rng, tree, |kind| matches!(kind, Kind::Symlink(_))) },
        _ => Operation::List { path: directory(rng, tree).0 },
    }
}

fn rename(rng: &mut StdRng, tree: &Tree, offered: Offered) -> Operation {
    let renaming = match rng.random_range(0..10) {
        0..2 if offered.rename_flags => Renaming::NoReplace,
        2..4 if offered.rename_flags => Renaming::Exchange,
        _ => Renaming::Plain,
    };
    Operation::Rename { from: path(rng, tree), to: path(rng, tree), renaming }
}

fn remove(rng: &mut StdRng, tree: &Tree) -> Operation {
    let path = path(rng, tree);
    let directory = tree.find(&path).is_ok_and(|id| tree.entries(id).is_some());
    // One in sixteen asks the wrong way.
    let wrong = rng.random_range(0..16) == 0;
    if directory != wrong { Operation::RemoveDirectory { path } } else { Operation::Unlink { path } }
}

/// A `chmod` would follow a symbolic link, so it is asked of something else.
fn describe(rng: &mut StdRng, tree: &Tree) -> Operation {
    let path = path(rng, tree);
    let found = tree.find(&path).ok().map(|id| &tree.nodes()[&id].kind);
    match found {
        Some(Kind::Symlink(_)) => set_time(rng, path),
        Some(Kind::Directory(..)) if rng.random() => Operation::ChangeMode { path, mode: mode(rng, true) },
        Some(Kind::File(_)) if rng.random() => Operation::ChangeMode { path, mode: mode(rng, false) },
        None if rng.random() => Operation::ChangeMode { path, mode: 0o700 },
        _ => set_time(rng, path),
    }
}

fn set_time(rng: &mut StdRng, path: String) -> Operation {
    let seconds = rng.random_range(0..4_000_000_000);
    Operation::SetTime { path, seconds, nanoseconds: rng.random_range(0..1_000_000_000) }
}

/// Few names and short values: an ext4 inode has room for no more.
fn xattr(rng: &mut StdRng, tree: &Tree) -> Operation {
    let path = path(rng, tree);
    let name = format!("user.x{}", rng.random_range(0..4));
    let bytes = Bytes { tag: rng.random(), length: rng.random_range(0..300) };
    let setting = [Setting::Either, Setting::Either, Setting::Create, Setting::Replace][rng.random_range(0..4)];
    match rng.random_range(0..4) {
        0..2 => Operation::SetXattr { path, name, bytes, setting },
        2 => Operation::GetXattr { path, name },
        _ => Operation::RemoveXattr { path, name },
    }
}

fn hold(rng: &mut StdRng, tree: &Tree) -> Operation {
    let held = tree.held();
    if held == 0 || (held < MOST_HELD && rng.random_range(0..4) == 0) {
        return Operation::Hold { path: file(rng, tree) };
    }
    let slot = rng.random_range(0..held);
    match rng.random_range(0..10) {
        0..3 => Operation::HeldWrite { slot, offset: offset(rng), bytes: bytes(rng) },
        3..6 => Operation::HeldRead { slot, offset: offset(rng), length: rng.random_range(1..100_000) },
        6 => Operation::HeldTruncate { slot, size: offset(rng) },
        7..9 => Operation::HeldStat { slot },
        _ => Operation::Release { slot },
    }
}
