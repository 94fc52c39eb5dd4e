use super::operation::{Bytes, Operation};
use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

fn small() -> Plan {
    Plan { operations: 1500, compare_every: 500, ..Plan::default() }
}

#[test]
fn a_plain_tree_agrees_with_its_models() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let models = run(dir.path(), &small()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(models.offered, Offered { xattrs: true, rename_flags: true, links: true });
    verify(dir.path(), &models).expect("nothing changed since");
}

#[test]
fn every_operation_and_the_errors_that_matter_come_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let offered = Offered { xattrs: true, rename_flags: true, links: true };
    let plan = Plan { seed: 5, ..Plan::default() };
    std::fs::create_dir(home(dir.path(), 0)).expect("make the subtree");
    let mut worker = Worker::new(dir.path(), &plan, 0, umask().expect("the umask"), offered);
    let (mut seen, mut errors) = (BTreeMap::<String, u64>::new(), BTreeMap::<i32, u64>::new());
    for _ in 0..6000 {
        let operation = choice::choose(&mut worker.rng, &worker.model, offered);
        let name = format!("{operation:?}");
        *seen.entry(name.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        if let Err(errno) = worker.model.apply(&operation) {
            *errors.entry(errno.raw_os_error()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 26, "{seen:?}");
    // EPERM, ENOENT, EEXIST, ENOTDIR, EISDIR, EINVAL, ENOTEMPTY, ELOOP and ENODATA.
    let codes = [1, 2, 17, 20, 21, 22, 39, 40, 61];
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), codes, "{errors:?}");
}

#[test]
fn what_is_changed_behind_its_back_is_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plan = Plan { threads: 1, operations: 600, shared_every: 2, ..Plan::default() };
    let models = run(dir.path(), &plan).unwrap_or_else(|failure| panic!("{failure}"));
    let file = first_file(&models);
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let changes: [Change; 5] = [
        ("bytes differ", &|path| flip(path)),
        ("mode", &|path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o7)).expect("chmod")),
        ("links", &|path| std::fs::hard_link(path, dir.path().join("another")).expect("link")),
        ("attributes", &|path| rustix::fs::setxattr(path, "user.more", b"", XattrFlags::empty()).expect("setxattr")),
        ("No such file", &|path| std::fs::remove_file(path).expect("unlink")),
    ];
    let path = home(dir.path(), 0).join(file);
    let shadow = tempfile::tempdir().expect("a temporary directory");
    for (number, (said, change)) in changes.into_iter().enumerate() {
        let copy = shadow.path().join(number.to_string());
        let copied = std::process::Command::new("cp").arg("-a").arg(dir.path()).arg(&copy).status().expect("run cp");
        assert!(copied.success());
        verify(&copy, &models).unwrap_or_else(|failure| panic!("a faithful copy: {failure}"));
        change(&copy.join(path.strip_prefix(dir.path()).expect("below it")));
        let failure = verify(&copy, &models).expect_err(said).to_string();
        assert!(failure.contains(said) || failure.contains("entries"), "{said}: {failure}");
    }
    let shared = dir.path().join(SHARED);
    std::fs::write(shared.join("log"), b"").expect("empty the log");
    assert!(verify(dir.path(), &models).expect_err("records are lost").to_string().contains("records"));
}

/// The path of some file that has content.
fn first_file(models: &Models) -> String {
    let tree = &models.trees[0];
    let mut pending = vec![model::ROOT];
    while let Some(directory) = pending.pop() {
        for (name, id) in tree.entries(directory).into_iter().flatten() {
            match &tree.nodes()[id].kind {
                model::Kind::File(content) if content.len() > 1 && tree.nodes()[id].mtime.is_none() => {
                    let within = tree.path_of(directory);
                    return if within.is_empty() { name.clone() } else { format!("{within}/{name}") };
                }
                model::Kind::Directory(..) => pending.push(*id),
                _ => {}
            }
        }
    }
    panic!("no file has content");
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read the file");
    bytes[1] ^= 1;
    std::fs::write(path, bytes).expect("write the file");
}

#[test]
fn an_answer_that_differs_is_told_with_the_operation() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut tree = Tree::new(0);
    let mut system = system::System::new(dir.path());
    let write = Operation::Write { path: "f".into(), offset: 0, bytes: Bytes { tag: 1, length: 10 } };
    let create = Operation::Create { path: "f".into(), mode: 0o644 };
    assert_eq!(agree(&tree.apply(&write), &system.apply(&write)), Ok(()), "absent to both");
    tree.apply(&create).expect("it is not there");
    let told = agree(&tree.apply(&write), &system.apply(&write)).expect_err("the directory lacks the file");
    assert!(told.contains("expected Ok(Done)"), "{told}");
}
