//! Whole rounds on a store in memory.

use super::memory::MemoryStore;
use super::*;
use crate::plan::tiny;
use crate::row::Outcome;

fn plan() -> Plan {
    Plan { blocks: vec![1 << 12, 1 << 16], ..tiny() }
}

fn rounds(memory: &Arc<MemoryStore>, plan: &Plan) -> (Vec<(RowId, Outcome)>, Result<()>) {
    let (mut rows, stop) = (Vec::new(), Stop::default());
    let store: Arc<dyn ObjectStore> = Arc::clone(memory) as _;
    let mut target = Store::open("mem://", store, "data/", "own", plan);
    let groups = target.groups();
    let done = groups.into_iter().try_for_each(|group| target.round(group, 0, &mut Recorder::new(&mut rows, &stop, &|_| ())));
    let left = target.leave();
    (rows, done.and(left))
}

#[test]
fn every_row_has_a_figure_and_nothing_else_is_touched() {
    let memory = Arc::new(MemoryStore::default());
    for key in ["data/own", "data/own-too/x", "data/a"] {
        memory.put(key, Bytes::from_static(b"x")).expect("puts");
    }
    let (rows, done) = rounds(&memory, &plan());
    done.expect("done");
    assert_eq!(memory.keys(), ["data/a", "data/own", "data/own-too/x"]);
    let slugs: Vec<String> = rows.iter().map(|(id, _)| id.slug()).collect();
    assert_eq!(slugs.len(), 4 + 6 + 4, "{slugs:#?}");
    for (id, outcome) in &rows {
        assert!(matches!(outcome, Outcome::Measured { sample, .. } if sample.count > 0), "{}: {outcome:?}", id.slug());
    }
    let range = rows.iter().find(|(id, _)| id.what == "GET range").expect("a row");
    assert_eq!(range.0.block_bytes, Some(1 << 13));
    assert!(matches!(&range.1, Outcome::Measured { sample, .. } if sample.first_bytes.percentiles().is_some()));
}

#[test]
fn objects_to_read_are_sent_when_no_row_sends_them() {
    let memory = Arc::new(MemoryStore::default());
    let (rows, done) = rounds(&memory, &Plan { only: vec![Group::Get], ..plan() });
    done.expect("done");
    assert_eq!(rows.len(), 6);
    assert!(memory.keys().is_empty());
}

#[test]
fn a_refusal_is_told_in_its_row_and_a_lasting_one_ends_the_bench() {
    let memory = Arc::new(MemoryStore::default());
    *memory.refuses.lock().expect("no holder panics") = Some(("get", false));
    let (rows, done) = rounds(&memory, &plan());
    done.expect("done");
    let refused = rows.iter().filter(|(_, outcome)| matches!(outcome, Outcome::NotMeasured(why) if why.contains("refused")));
    assert_eq!(refused.count(), 6);
    *memory.refuses.lock().expect("no holder panics") = Some(("get", true));
    let error = rounds(&memory, &plan()).1.expect_err("ends").to_string();
    assert!(error.starts_with("cannot get 'data/own/4096/"), "{error}");
    assert!(memory.keys().is_empty(), "it cleaned up all the same");
}

#[test]
fn what_cannot_be_removed_is_named() {
    let memory = Arc::new(MemoryStore::default());
    *memory.refuses.lock().expect("no holder panics") = Some(("delete", true));
    let target = Store::open("mem://", Arc::clone(&memory) as _, "", "own", &plan());
    memory.put("own/x", Bytes::new()).expect("puts");
    let mut target = target;
    let error = target.leave().expect_err("left").to_string();
    assert_eq!(error, "'own/ (mem://)' could not be removed (cannot delete 'own/x': refused); remove it by hand");
}
