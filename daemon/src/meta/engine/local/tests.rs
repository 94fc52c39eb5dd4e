//! What only this engine does: journal files, checkpoints, and what is left when it ends badly.

use super::super::{Batch, Durability, Engine, KeyRange, Order, Table};
use super::*;
use crate::format::rows::journal::{JournalWrite, encode_record};
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

const MEMORY: usize = 16 << 20;
/// Larger than a directory's or an inode's row by far, so that few commits fill a memtable.
const LARGE: usize = MEMTABLE_BYTES / 8;

fn open(dir: &Path) -> LocalEngine {
    LocalEngine::open(dir, MEMORY).expect("opens")
}

fn put(engine: &LocalEngine, number: u64, len: usize) {
    let mut batch = Batch::default();
    batch.put(Table::Inodes, number.to_be_bytes(), vec![number as u8; len]);
    engine.commit(batch, Durability::Process).expect("commits");
}

fn numbers(engine: &LocalEngine, order: Order) -> Vec<u64> {
    let mut found = Vec::new();
    let all = KeyRange { start: Vec::new(), end: None };
    engine
        .view()
        .scan(Table::Inodes, &all, order, &mut |key, value| {
            let number = u64::from_be_bytes(key.try_into().expect("eight bytes"));
            assert!(value.iter().all(|&byte| byte == number as u8));
            found.push(number);
            ControlFlow::Continue(())
        })
        .expect("scans");
    found
}

fn journals(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists").path());
    let mut found: Vec<_> = files.filter(|path| path.to_string_lossy().contains("journal-")).collect();
    found.sort();
    found
}

#[test]
fn rows_are_found_wherever_they_are_in_memory_or_on_disk() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = open(dir.path());
    for number in 0..40 {
        put(&engine, number, LARGE);
        assert_eq!(numbers(&engine, Order::Ascending), (0..=number).collect::<Vec<_>>());
    }
    assert_eq!(numbers(&engine, Order::Descending), (0..40).rev().collect::<Vec<_>>());
    engine.settle();
    assert!(engine.shared.tree.applied().expect("reads") >= 32, "nothing was taken in");
    assert!(journals(dir.path()).len() <= 2, "{:?}", journals(dir.path()));
    drop(engine);
    assert_eq!(numbers(&open(dir.path()), Order::Ascending), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_removed_row_stays_removed_through_checkpoint_and_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = open(dir.path());
    for number in 0..20 {
        put(&engine, number, LARGE);
    }
    engine.settle();
    let mut batch = Batch::default();
    batch.remove(Table::Inodes, 3u64.to_be_bytes());
    engine.commit(batch, Durability::Process).expect("commits");
    let expected: Vec<u64> = (0..20).filter(|number| *number != 3).collect();
    assert_eq!(numbers(&engine, Order::Ascending), expected);
    assert_eq!(engine.view().get(Table::Inodes, &3u64.to_be_bytes()).expect("reads"), None);
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(numbers(&engine, Order::Descending), expected.iter().rev().copied().collect::<Vec<_>>());
    for number in 20..40 {
        put(&engine, number, LARGE);
    }
    engine.settle();
    assert_eq!(engine.view().get(Table::Inodes, &3u64.to_be_bytes()).expect("reads"), None);
}

#[test]
fn a_view_keeps_its_state_through_a_checkpoint() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = open(dir.path());
    put(&engine, 0, 1);
    let view = engine.view();
    for number in 0..30 {
        put(&engine, number, LARGE);
    }
    engine.settle();
    assert_eq!(view.get(Table::Inodes, &0u64.to_be_bytes()).expect("reads").map(|value| value.len()), Some(1));
    assert_eq!(view.get(Table::Inodes, &1u64.to_be_bytes()).expect("reads"), None);
}

/// The commits that a journal still has.
fn replay(dir: &Path) -> (Journal, Vec<u64>) {
    let mut found = Vec::new();
    let (journal, last) = Journal::recover(dir, 0, &mut |record| found.push(record.sequence)).expect("recovers");
    assert_eq!(last, found.len() as u64);
    (journal, found)
}

fn record(sequence: u64) -> Vec<u8> {
    let write = JournalWrite { table: 1, key: b"key", value: Some(&[7; 9]) };
    encode_record(sequence, 1, std::iter::once(write))
}

fn journal_of(sequences: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    sequences.flat_map(record).collect()
}

#[test]
fn a_journal_cut_anywhere_leaves_the_commits_before_the_cut_and_goes_on_there() {
    let whole = journal_of(1..=4);
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("journal-0000000000000001"), &whole[..cut]).expect("writes");
        let survived = (cut / record(1).len()) as u64;
        let (mut journal, found) = replay(dir.path());
        assert_eq!(found, (1..=survived).collect::<Vec<_>>(), "cut at {cut}");
        journal.append(&record(survived + 1)).expect("appends");
        assert_eq!(replay(dir.path()).1.len() as u64, survived + 1, "cut at {cut}, and again");
    }
}

#[test]
fn a_flipped_bit_ends_the_journal_there() {
    let whole = journal_of(1..=4);
    for at in 0..whole.len() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(dir.path().join("journal-0000000000000001"), bytes).expect("writes");
        assert_eq!(replay(dir.path()).1.len(), at / record(1).len(), "bit flipped in byte {at}");
    }
}

/// A power cut can lose the end of a file and keep the next one, which was written later.
#[test]
fn commits_after_a_gap_are_not_taken_for_promised() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let first = journal_of(1..=3);
    fs::write(dir.path().join("journal-0000000000000001"), &first[..first.len() - 1]).expect("writes");
    fs::write(dir.path().join("journal-0000000000000004"), journal_of(4..=6)).expect("writes");
    let (mut journal, found) = replay(dir.path());
    assert_eq!(found, [1, 2]);
    // Number 3 is given again; what the lost file had after it must not come back.
    journal.append(&record(3)).expect("appends");
    assert_eq!(replay(dir.path()).1, [1, 2, 3]);
}

#[test]
fn files_go_when_the_tree_holds_all_their_commits() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut journal, _) = replay(dir.path());
    for sequence in 1..=6 {
        journal.append(&record(sequence)).expect("appends");
        if sequence % 2 == 0 {
            journal.begin_segment(sequence + 1).expect("begins");
        }
    }
    for (applied, files) in [(1, 4), (2, 3), (5, 2), (6, 1)] {
        journal.forget(applied);
        assert_eq!(journals(dir.path()).len(), files, "applied {applied}");
    }
}

#[test]
fn commits_go_on_after_a_write_to_the_journal_failed_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = open(dir.path());
    put(&engine, 0, 5);
    let read_only = Arc::new(fs::File::open(&journals(dir.path())[0]).expect("opens"));
    let writable = engine.shared.writer.lock().journal.swap_file(read_only);
    let mut batch = Batch::default();
    batch.put(Table::Inodes, 9u64.to_be_bytes(), "x");
    assert!(engine.commit(batch, Durability::Process).is_err());
    engine.shared.writer.lock().journal.swap_file(writable);
    put(&engine, 1, 5);
    assert_eq!(numbers(&engine, Order::Ascending), [0, 1]);
    drop(engine);
    assert_eq!(numbers(&open(dir.path()), Order::Ascending), [0, 1]);
}
