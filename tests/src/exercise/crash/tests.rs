use super::log::Operation;
use super::*;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What the process was told, if it was started by [`spawn`].
fn told() -> Option<(PathBuf, PathBuf, Plan)> {
    let told = std::env::var(VARIABLE).ok()?;
    let mut lines = told.lines();
    let (dir, log) = (lines.next()?.into(), lines.next()?.into());
    let mut number = || lines.next()?.parse().ok();
    let plan = Plan { seed: number()?, operations: number()?, max_file_bytes: number()? };
    Some((dir, log, plan))
}

/// Not a test of its own: what [`spawn`] starts.
#[test]
#[ignore = "the writer's process of the crash tests"]
fn the_writer_process() {
    let Some((dir, log, plan)) = told() else { return };
    let ended = Writer::new(&dir, &log, &plan).map(|mut writer| writer.run());
    eprintln!("the writer ended: {ended:?}");
}

/// A directory that a writer worked on in this process, and its log.
struct Round {
    home: tempfile::TempDir,
}

impl Round {
    fn new() -> Round {
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(home.path().join("dir")).expect("make the directory");
        Round { home }
    }

    fn written(seed: u64, operations: u64) -> Round {
        let round = Round::new();
        let plan = Plan { seed, operations, ..Plan::default() };
        Writer::new(&round.dir(), &round.log(), &plan).expect("a new log").run().expect("a plain directory refuses nothing");
        round
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("dir")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    fn check(&self, rules: &Rules) -> Result<Survived, Failure> {
        super::check(&self.dir(), &self.log(), rules)
    }

    /// Path of a file that was synced last of all that happened to it, and is longer than a page.
    fn synced_file(&self) -> Option<PathBuf> {
        let log = Log::read(&self.log()).expect("the log");
        let mut synced = std::collections::BTreeMap::new();
        for operation in &log.operations {
            match operation {
                Operation::Sync { file, .. } => drop(synced.insert(*file, true)),
                other => drop(other.content_changed().map(|file| synced.insert(file, false))),
            }
        }
        let mut names = log::Names::new();
        log.operations.iter().for_each(|operation| operation.change_names(&mut names));
        let long = |path: &Path| std::fs::metadata(path).is_ok_and(|data| data.len() > 8192);
        let all = names.iter().filter(|(_, file)| file.is_some_and(|file| synced.get(&file) == Some(&true)));
        all.map(|(path, _)| self.dir().join(path)).find(|path| long(path))
    }
}

#[test]
fn what_a_killed_writer_left_on_a_plain_directory_is_what_its_log_says() {
    for seed in 1..4 {
        let round = Round::new();
        let plan = Plan { seed, ..Plan::default() };
        let mut child = spawn(&round.dir(), &round.log(), &plan).expect("start the writer");
        let acknowledged = wait_for(&round.log(), 150 * seed as usize, Duration::from_secs(60));
        child.kill().expect("kill the writer");
        child.wait().expect("it ended");
        assert!(acknowledged >= 150 * seed as usize, "only {acknowledged} operations in a minute");
        for rules in [Rules::LOCAL, Rules::SYNCED] {
            let survived = round.check(&rules).unwrap_or_else(|failure| panic!("{rules:?}: {failure}"));
            assert!(survived.acknowledged >= acknowledged && survived.files > 0 && survived.synced_files > 0, "{survived:?}");
        }
    }
}

#[test]
fn the_log_reads_back_and_knows_what_is_open() {
    let round = Round::written(1, 400);
    let log = Log::read(&round.log()).expect("the log");
    assert_eq!((log.operations.len(), log.acknowledged, log.seed), (400, 400, 1));
    let kinds: BTreeSet<String> =
        log.operations.iter().map(|operation| operation.to_string().split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    let text = std::fs::read_to_string(round.log()).expect("the log");
    std::fs::write(round.log(), text.strip_suffix("done 399\n").expect("it is the last line")).expect("cut the log");
    assert_eq!(Log::read(&round.log()).expect("the log").acknowledged, 399);
    std::fs::write(round.log(), text + "start 400 cre").expect("tear the log");
    assert_eq!(Log::read(&round.log()).expect("the log"), log, "the half line was never written");
    std::fs::write(round.log(), "seed 1\nstart 0 mkdir d\nstart 1 mkdir e\n").expect("write a log");
    assert!(Log::read(&round.log()).is_err());
}

#[test]
fn zeros_mixtures_and_older_states_are_found() {
    let rounds = (5..50).map(|seed| Round::written(seed, 300));
    let (round, path) = rounds
        .filter_map(|round| round.synced_file().map(|path| (round, path)))
        .next()
        .expect("some writer ends with a long file that is synced");
    round.check(&Rules::LOCAL).unwrap_or_else(|failure| panic!("{failure}"));
    let right = std::fs::read(&path).expect("read the file");
    let mut flipped = right.clone();
    flipped[right.len() - 1] ^= 1;
    let mut zeroed = right.clone();
    zeroed[4096..8192].fill(0);
    let longer = [right.as_slice(), b"x"].concat();
    for (what, wrong) in [("flipped", flipped), ("zeroed", zeroed), ("longer", longer), ("cut", right[..4096].to_vec())] {
        std::fs::write(&path, wrong).expect("write the file");
        for rules in [Rules::LOCAL, Rules::SYNCED] {
            assert!(round.check(&rules).is_err(), "{what} under {rules:?}");
        }
    }
    std::fs::write(&path, &right).expect("write the file");
    std::fs::rename(&path, round.dir().join("elsewhere")).expect("rename the file");
    let failure = round.check(&Rules::SYNCED).expect_err("it has another name").to_string();
    assert!(failure.contains("elsewhere"), "{failure}");
    std::fs::remove_file(round.dir().join("elsewhere")).expect("remove the file");
    assert!(round.check(&Rules::SYNCED).is_err(), "a synced file is gone");
}

/// A log by hand, and what the directory may hold by it.
fn by_hand(lines: &str) -> Round {
    let round = Round::new();
    let mut text = "seed 9\n".to_owned();
    for (number, line) in lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        text += &format!("start {number} {line}\ndone {number}\n");
    }
    std::fs::write(round.log(), text).expect("write the log");
    round
}

fn content_after(round: &Round, operations: &[usize], limit: usize) -> Vec<u8> {
    let log = Log::read(&round.log()).expect("the log");
    let mut content = Vec::new();
    for (place, at) in operations.iter().enumerate() {
        let limit = if place + 1 == operations.len() { limit } else { usize::MAX };
        log.operations[*at].change_content(log.seed, *at as u64, limit, &mut content);
    }
    content
}

#[test]
fn contents_since_the_last_sync_are_right_and_others_are_not() {
    let round = by_hand(
        "create 0 f
         append 0 f 0 10000
         sync 0 f
         overwrite 0 f 100 9000
         append 0 f 10000 50",
    );
    let file = round.dir().join("f");
    let all = usize::MAX;
    let put = |bytes: Vec<u8>| std::fs::write(&file, bytes).expect("write the file");
    for right in [&[1][..], &[1, 3], &[1, 3, 4]] {
        put(content_after(&round, right, all));
        assert_eq!(round.check(&Rules::SYNCED).map(|survived| survived.synced_files), Ok(1), "{right:?}");
    }
    put(content_after(&round, &[1, 3], 4096 - 100));
    assert!(round.check(&Rules::SYNCED).is_ok(), "the overwriting is cut at a page's border");
    assert!(round.check(&Rules { torn_writes: false, ..Rules::SYNCED }).is_err());
    for (what, wrong) in [
        ("cut within a page", content_after(&round, &[1, 3], 5000)),
        ("the appending without the overwriting", content_after(&round, &[1, 4], all)),
        ("nothing", Vec::new()),
    ] {
        put(wrong);
        assert!(round.check(&Rules::SYNCED).is_err(), "{what}");
    }
    put(content_after(&round, &[1, 3], all));
    assert!(round.check(&Rules::LOCAL).is_err(), "an acknowledged appending is lost");
    assert!(round.check(&Rules { contents: Kept::Synced, ..Rules::LOCAL }).is_ok());
}

#[test]
fn names_are_those_of_one_point() {
    let lines = "mkdir d
         create 0 d/a
         syncdir d
         rename d/a d/b
         create 1 c";
    let tries: [(&[&str], bool, bool); 6] = [
        (&["d/a"], true, false),
        (&["d/b"], true, false),
        (&["d/b", "c"], true, true),
        (&["d/a", "c"], false, false),
        (&["d/a", "d/b"], false, false),
        (&[], false, false),
    ];
    for (files, synced, local) in tries {
        let round = by_hand(lines);
        std::fs::create_dir(round.dir().join("d")).expect("make a directory");
        for file in files {
            OpenOptions::new().write(true).create(true).truncate(true).open(round.dir().join(file)).expect("make a file");
        }
        assert_eq!(round.check(&Rules::SYNCED).is_ok(), synced, "{files:?}");
        assert_eq!(round.check(&Rules::LOCAL).is_ok(), local, "{files:?}");
    }
}

#[test]
fn a_sync_keeps_the_name_only_where_that_is_promised() {
    let round = by_hand(
        "create 0 f
         sync 0 f",
    );
    assert!(round.check(&Rules::SYNCED).is_err());
    assert!(round.check(&Rules { sync_keeps_name: false, ..Rules::SYNCED }).is_ok());
}

#[test]
fn the_operation_under_way_may_have_happened_or_not() {
    let round = by_hand("create 0 f");
    let text = std::fs::read_to_string(round.log()).expect("the log") + "start 1 append 0 f 0 5000\nfailed 1 ENOTCONN\n";
    std::fs::write(round.log(), text).expect("write the log");
    let file = std::fs::File::create(round.dir().join("f")).expect("make the file");
    assert!(round.check(&Rules::LOCAL).is_ok(), "not");
    file.write_all_at(&content_after(&round, &[1], 4096), 0).expect("write");
    assert!(round.check(&Rules::LOCAL).is_ok(), "to a page's border");
    file.write_all_at(&content_after(&round, &[1], usize::MAX), 0).expect("write");
    assert!(round.check(&Rules::LOCAL).is_ok(), "all of it");
    file.set_len(6000).expect("make it longer");
    assert!(round.check(&Rules::LOCAL).is_err(), "zeros behind it");
}
