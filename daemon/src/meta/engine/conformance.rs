//! What every metadata engine must do: each check runs on each engine.

use super::faulty::{Fault, FaultyEngine};
use super::local::LocalEngine;
use super::memory::MemoryEngine;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MEMORY: usize = 16 << 20;

/// Runs a check on every engine, each fresh.
fn on_every_engine(check: impl Fn(&dyn Engine)) {
    check(&MemoryEngine::default());
    check(&FaultyEngine::new(MemoryEngine::default()));
    let dir = tempfile::tempdir().expect("temporary directory");
    check(&LocalEngine::open(dir.path(), MEMORY).expect("opens"));
}

fn put(engine: &dyn Engine, table: Table, rows: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(table, *key, *value);
    }
    engine.commit(batch, Durability::Process).expect("commits");
}

fn get(engine: &dyn Engine, table: Table, key: &str) -> Option<String> {
    let value = engine.view().get(table, key.as_bytes()).expect("reads");
    value.map(|value| String::from_utf8(value).expect("text"))
}

fn keys(view: &dyn View, table: Table, start: &str, end: Option<&str>, order: Order, limit: usize) -> Vec<String> {
    let range = KeyRange { start: start.into(), end: end.map(Into::into) };
    let mut found = Vec::new();
    view.scan(table, &range, order, &mut |key, _| {
        found.push(String::from_utf8(key.to_vec()).expect("text"));
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .expect("scans");
    found
}

#[test]
fn what_was_put_is_there_until_removed() {
    on_every_engine(|engine| {
        put(engine, Table::Inodes, &[("a", "1"), ("b", "2")]);
        put(engine, Table::Inodes, &[("a", "3")]);
        assert_eq!(get(engine, Table::Inodes, "a").as_deref(), Some("3"));
        let mut batch = Batch::default();
        batch.remove(Table::Inodes, "a");
        batch.remove(Table::Inodes, "never there");
        engine.commit(batch, Durability::Durable).expect("commits");
        assert_eq!(get(engine, Table::Inodes, "a"), None);
        assert_eq!(get(engine, Table::Inodes, "b").as_deref(), Some("2"));
        engine.flush().expect("flushes");
    });
}

#[test]
fn tables_are_apart() {
    on_every_engine(|engine| {
        for table in Table::ALL {
            put(engine, table, &[("k", table.name()), ("l", "")]);
        }
        for table in Table::ALL {
            assert_eq!(get(engine, table, "k").as_deref(), Some(table.name()));
            for order in [Order::Ascending, Order::Descending] {
                assert_eq!(keys(&*engine.view(), table, "", None, order, 9).len(), 2, "{table:?} {order:?}");
            }
        }
    });
}

#[test]
fn ranges_are_half_open_ordered_and_stop_when_told() {
    on_every_engine(|engine| {
        put(engine, Table::Dirents, &[("a", ""), ("ab", ""), ("b", ""), ("c", ""), ("\u{7f}", "")]);
        let view = engine.view();
        let scan = |start, end, order, limit| keys(&*view, Table::Dirents, start, end, order, limit).join(" ");
        assert_eq!(scan("a", Some("c"), Order::Ascending, 9), "a ab b");
        assert_eq!(scan("a", Some("c"), Order::Descending, 9), "b ab a");
        assert_eq!(scan("aa", None, Order::Ascending, 2), "ab b");
        assert_eq!(scan("", Some("b"), Order::Descending, 1), "ab");
        assert_eq!(scan("b", Some("b"), Order::Ascending, 9), "");
        assert_eq!(scan("c", Some("a"), Order::Descending, 9), "");
    });
}

#[test]
fn the_last_of_several_writes_to_a_row_wins() {
    on_every_engine(|engine| {
        let mut batch = Batch::default();
        batch.put(Table::Inodes, "put last", "1");
        batch.remove(Table::Inodes, "put last");
        batch.put(Table::Inodes, "put last", "2");
        batch.put(Table::Inodes, "removed last", "1");
        batch.remove(Table::Inodes, "removed last");
        engine.commit(batch, Durability::Process).expect("commits");
        assert_eq!(get(engine, Table::Inodes, "put last").as_deref(), Some("2"));
        assert_eq!(get(engine, Table::Inodes, "removed last"), None);
    });
}

#[test]
fn a_batch_whose_precondition_fails_changes_nothing() {
    on_every_engine(|engine| {
        put(engine, Table::Inodes, &[("a", "1")]);
        let expectations = [("a", None), ("a", Some("2")), ("b", Some("1"))];
        for (key, value) in expectations {
            let mut batch = Batch::default();
            batch.put(Table::Dirents, "x", "y");
            batch.expect(Table::Inodes, "a", Some(b"1".to_vec()));
            batch.expect(Table::Inodes, key, value.map(|v: &str| v.into()));
            let answer = engine.commit(batch, Durability::Process);
            assert!(matches!(answer, Err(EngineError::Conflict)), "{key} {value:?}: {answer:?}");
            assert_eq!(get(engine, Table::Dirents, "x"), None);
        }
        let mut batch = Batch::default();
        batch.put(Table::Dirents, "x", "y");
        batch.expect(Table::Inodes, "a", Some(b"1".to_vec()));
        batch.expect(Table::Inodes, "b", None);
        engine.commit(batch, Durability::Process).expect("both hold");
        assert_eq!(get(engine, Table::Dirents, "x").as_deref(), Some("y"));
    });
}

#[test]
fn a_stamp_from_before_another_commit_does_not_hide_a_conflict() {
    on_every_engine(|engine| {
        let stamp = engine.view().stamp();
        let mut batch = Batch::default();
        batch.read_at(stamp);
        batch.expect(Table::Inodes, "a", None);
        batch.put(Table::Inodes, "a", "mine");
        engine.commit(batch.clone(), Durability::Process).expect("nothing happened since");
        let again = engine.commit(batch, Durability::Process);
        assert!(matches!(again, Err(EngineError::Conflict)), "{again:?}");
    });
}

#[test]
fn a_view_never_changes() {
    on_every_engine(|engine| {
        put(engine, Table::Inodes, &[("a", "1"), ("b", "1")]);
        let view = engine.view();
        put(engine, Table::Inodes, &[("a", "2"), ("c", "2")]);
        assert_eq!(view.get(Table::Inodes, b"a").expect("reads").as_deref(), Some(b"1".as_slice()));
        assert_eq!(keys(&*view, Table::Inodes, "", None, Order::Ascending, 9), ["a", "b"]);
        assert_eq!(keys(&*engine.view(), Table::Inodes, "", None, Order::Ascending, 9), ["a", "b", "c"]);
        assert_ne!(view.stamp(), engine.view().stamp());
    });
}

#[test]
fn increments_from_many_threads_are_all_counted() {
    const THREADS: u32 = 4;
    const EACH: u32 = 50;
    on_every_engine(|engine| {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..EACH).for_each(|_| increment(engine)));
            }
        });
        assert_eq!(get(engine, Table::Settings, "n"), Some((THREADS * EACH).to_string()));
    });
}

fn increment(engine: &dyn Engine) {
    loop {
        let view = engine.view();
        let row = view.get(Table::Settings, b"n").expect("reads");
        let number = row.as_deref().map_or(0, |row| std::str::from_utf8(row).expect("text").parse::<u32>().expect("number"));
        let mut batch = Batch::default();
        batch.read_at(view.stamp());
        batch.expect(Table::Settings, "n", row);
        batch.put(Table::Settings, "n", (number + 1).to_string());
        drop(view);
        match engine.commit(batch, Durability::Process) {
            Ok(()) => return,
            Err(EngineError::Conflict) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn no_view_shows_half_a_commit() {
    on_every_engine(|engine| {
        let done = std::sync::atomic::AtomicBool::new(false);
        let views = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut views = 0;
                while !done.load(std::sync::atomic::Ordering::Acquire) || views == 0 {
                    let view = engine.view();
                    let first = view.get(Table::Inodes, b"first").expect("reads");
                    assert_eq!(first, view.get(Table::Xattrs, b"last").expect("reads"));
                    views += 1;
                }
                views
            });
            for n in 0..200 {
                let mut batch = Batch::default();
                batch.put(Table::Inodes, "first", n.to_string());
                (0..20).for_each(|filler| batch.put(Table::Dirents, format!("{filler}"), n.to_string()));
                batch.put(Table::Xattrs, "last", n.to_string());
                engine.commit(batch, Durability::Process).expect("commits");
            }
            done.store(true, std::sync::atomic::Ordering::Release);
            reader.join().expect("reader")
        });
        assert!(views > 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn random_batches_leave_what_a_map_would_hold(
        batches in prop::collection::vec(prop::collection::vec((0..3usize, prop::collection::vec(0..4u8, 0..4), prop::option::of(any::<u8>())), 1..12), 1..12),
        start in prop::collection::vec(0..4u8, 0..3),
        end in prop::option::of(prop::collection::vec(0..4u8, 0..3)),
    ) {
        on_every_engine(|engine| {
            let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
            for writes in &batches {
                let mut batch = Batch::default();
                for (table, key, value) in writes {
                    let table = Table::ALL[*table];
                    match value {
                        Some(value) => {
                            batch.put(table, key.clone(), vec![*value]);
                            model.insert((table, key.clone()), vec![*value]);
                        }
                        None => {
                            batch.remove(table, key.clone());
                            model.remove(&(table, key.clone()));
                        }
                    }
                }
                engine.commit(batch, Durability::Process).expect("commits");
            }
            let range = KeyRange { start: start.clone(), end: end.clone() };
            for table in &Table::ALL[..3] {
                let mut expected: Vec<_> = model.iter().filter(|((t, _), _)| t == table).map(|((_, k), v)| (k.clone(), v.clone()))
                    .filter(|(k, _)| *k >= range.start && range.end.as_ref().is_none_or(|end| k < end)).collect();
                for order in [Order::Ascending, Order::Descending] {
                    let mut found = Vec::new();
                    engine.view().scan(*table, &range, order, &mut |k, v| {
                        found.push((k.to_vec(), v.to_vec()));
                        ControlFlow::Continue(())
                    }).expect("scans");
                    assert_eq!(found, expected, "{table:?} {order:?}");
                    expected.reverse();
                }
            }
        });
    }
}

#[test]
fn the_local_engine_keeps_its_rows_across_a_restart_and_refuses_a_second_opener() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = LocalEngine::open(dir.path(), MEMORY).expect("opens");
    put(&engine, Table::Inodes, &[("a", "1")]);
    let second = LocalEngine::open(dir.path(), MEMORY).map(drop);
    assert!(matches!(second, Err(EngineError::Locked)), "{second:?}");
    drop(engine);
    let engine = LocalEngine::open(dir.path(), MEMORY).expect("opens again");
    assert_eq!(get(&engine, Table::Inodes, "a").as_deref(), Some("1"));
}

#[test]
fn injected_faults_apply_or_not_as_they_say() {
    let engine = FaultyEngine::new(MemoryEngine::default());
    for (fault, applied) in [(Fault::Conflict, false), (Fault::NotApplied, false), (Fault::AppliedReplyLost, true)] {
        engine.fail(2, fault);
        put(&engine, Table::Inodes, &[("before", "1")]);
        let mut batch = Batch::default();
        batch.put(Table::Inodes, format!("{fault:?}"), "1");
        assert!(engine.commit(batch, Durability::Process).is_err(), "{fault:?}");
        assert_eq!(get(&engine, Table::Inodes, &format!("{fault:?}")).is_some(), applied, "{fault:?}");
    }
    assert_eq!(engine.commits(), 6);
}
