//! What is measured.

use crate::candidates::{Candidate, Change, Table};
use crate::figures::{Figures, add_memory, cpu_ms};
use crate::rows::{self, FIRST_FILE, Numbers};
use crate::{Outcome, Role};
use forebay_daemon::format::rows::{Dirent, InodeRow};
use forebay_daemon::ids::Ino;
use std::io::Write;
use std::time::{Duration, Instant};

/// Files per import batch, as a listing page has them.
const PAGE: u64 = 1000;
const LOOKUPS: u64 = 200_000;
const CHURN: u64 = 20_000;
const DURABLE_COMMITS: u64 = 200;
/// Transactions of the writer before it is killed.
pub const KILL_AFTER: u64 = 30_000;

type Open<'a> = &'a dyn Fn() -> Outcome<Box<dyn Candidate>>;

/// Runs one part.
pub fn run(role: Role, open: Open<'_>, entries: u64) -> Outcome<Figures> {
    let mut figures = Figures::default();
    let (begun, cpu) = (Instant::now(), cpu_ms());
    let mut store = open()?;
    figures.set("open ms", ms(begun.elapsed()));
    figures.set("open CPU ms", cpu_ms() - cpu);
    match role {
        Role::Import => import(&mut *store, entries, &mut figures)?,
        Role::Read => {
            lookups(&*store, entries, &mut figures)?;
            read_directory(&*store, entries, &mut figures)?;
        }
        Role::Write => {
            churn(&mut *store, entries, &mut figures)?;
            durable_commits(&mut *store, entries, &mut figures)?;
        }
        Role::Crash => write_until_killed(&mut *store, entries)?,
        Role::Recover => figures.set("last transaction found", last_transaction(&*store)?),
    }
    add_memory(&mut figures)?;
    Ok(figures)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percentile_us(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

fn create(number: u64) -> [Change; 2] {
    let (name, ino) = (rows::name(number), Ino(FIRST_FILE + number));
    [
        (Table::Inodes, rows::inode_key(ino), Some(rows::inode(number, &name))),
        (Table::Dirents, rows::dirent_key(&name), Some(rows::dirent(ino))),
    ]
}

fn import(store: &mut dyn Candidate, entries: u64, figures: &mut Figures) -> Outcome<()> {
    let (begun, cpu) = (Instant::now(), cpu_ms());
    let mut times = Vec::new();
    for page in 0..entries.div_ceil(PAGE) {
        let changes: Vec<Change> = (page * PAGE..entries.min((page + 1) * PAGE)).flat_map(create).collect();
        let committing = Instant::now();
        store.commit(&changes, false)?;
        times.push(committing.elapsed());
    }
    figures.set("entries/s", entries as f64 / begun.elapsed().as_secs_f64());
    figures.set("CPU us per entry", (cpu_ms() - cpu) * 1e3 / entries as f64);
    figures.set("batch p50 us", percentile_us(&mut times, 50));
    figures.set("batch p99 us", percentile_us(&mut times, 99));
    figures.set("worst batch ms", times.last().copied().map_or(f64::NAN, ms));
    let flushing = Instant::now();
    store.flush()?;
    figures.set("flush ms", ms(flushing.elapsed()));
    Ok(())
}

fn lookups(store: &dyn Candidate, entries: u64, figures: &mut Figures) -> Outcome<()> {
    let mut numbers = Numbers(42);
    let mut times = Vec::new();
    let begun = Instant::now();
    for _ in 0..LOOKUPS {
        let name = rows::name(numbers.below(entries));
        let looking = Instant::now();
        let row = store.get(Table::Dirents, &rows::dirent_key(&name))?.ok_or("a name is lost")?;
        let row = store.get(Table::Inodes, &rows::inode_key(Dirent::decode(&row)?.ino))?.ok_or("an inode is lost")?;
        std::hint::black_box(InodeRow::decode(&row)?);
        times.push(looking.elapsed());
    }
    figures.set("lookups/s", LOOKUPS as f64 / begun.elapsed().as_secs_f64());
    figures.set("lookup p50 us", percentile_us(&mut times, 50));
    figures.set("lookup p99 us", percentile_us(&mut times, 99));
    Ok(())
}

fn read_directory(store: &dyn Candidate, entries: u64, figures: &mut Figures) -> Outcome<()> {
    let (begun, cpu) = (Instant::now(), cpu_ms());
    let mut inos = Vec::new();
    store.scan(Table::Dirents, &mut |row| {
        inos.push(Dirent::decode(row)?.ino);
        Ok(())
    })?;
    let mut sizes = 0;
    store.scan(Table::Inodes, &mut |row| {
        sizes += InodeRow::decode(row)?.size;
        Ok(())
    })?;
    std::hint::black_box(sizes);
    if inos.len() as u64 != entries {
        return Err(format!("{} of {entries} entries", inos.len()).into());
    }
    figures.set("readdir with inodes, entries/s", entries as f64 / begun.elapsed().as_secs_f64());
    figures.set("readdir, CPU us per entry", (cpu_ms() - cpu) * 1e3 / entries as f64);
    Ok(())
}

/// A create, or a rename of something that exists, as small transactions.
fn small_transaction(numbers: &mut Numbers, entries: u64, step: u64) -> Vec<Change> {
    if step.is_multiple_of(2) {
        return create(2 * entries + step).into();
    }
    let number = numbers.below(entries);
    let (old, new) = (rows::name(number), format!("renamed-{step}"));
    let ino = Ino(FIRST_FILE + number);
    vec![
        (Table::Dirents, rows::dirent_key(&old), None),
        (Table::Dirents, rows::dirent_key(&new), Some(rows::dirent(ino))),
        (Table::Inodes, rows::inode_key(ino), Some(rows::inode(number, &new))),
    ]
}

fn churn(store: &mut dyn Candidate, entries: u64, figures: &mut Figures) -> Outcome<()> {
    let mut numbers = Numbers(7);
    let mut times = Vec::new();
    let (begun, cpu) = (Instant::now(), cpu_ms());
    for step in 0..CHURN {
        let changes = small_transaction(&mut numbers, entries, step);
        let committing = Instant::now();
        store.commit(&changes, false)?;
        times.push(committing.elapsed());
    }
    figures.set("churn transactions/s", CHURN as f64 / begun.elapsed().as_secs_f64());
    figures.set("churn, CPU us per transaction", (cpu_ms() - cpu) * 1e3 / CHURN as f64);
    figures.set("commit p50 us", percentile_us(&mut times, 50));
    figures.set("commit p99 us", percentile_us(&mut times, 99));
    Ok(())
}

fn durable_commits(store: &mut dyn Candidate, entries: u64, figures: &mut Figures) -> Outcome<()> {
    let mut numbers = Numbers(9);
    let mut times = Vec::new();
    for step in 0..DURABLE_COMMITS {
        let changes = small_transaction(&mut numbers, entries, CHURN + step);
        let committing = Instant::now();
        store.commit(&changes, true)?;
        times.push(committing.elapsed());
    }
    figures.set("durable commit p50 us", percentile_us(&mut times, 50));
    figures.set("durable commit p99 us", percentile_us(&mut times, 99));
    Ok(())
}

const MARK: &[u8] = b"last transaction";

/// Commits without waiting for the disk, says so, and goes on until it is killed.
fn write_until_killed(store: &mut dyn Candidate, entries: u64) -> Outcome<()> {
    let mut numbers = Numbers(11);
    let mut stdout = std::io::stdout().lock();
    for step in 1.. {
        let mut changes = small_transaction(&mut numbers, entries, 10 * CHURN + step);
        changes.push((Table::Settings, MARK.to_vec(), Some(step.to_le_bytes().to_vec())));
        store.commit(&changes, false)?;
        stdout.write_all(&step.to_le_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

fn last_transaction(store: &dyn Candidate) -> Outcome<f64> {
    let row = store.get(Table::Settings, MARK)?;
    Ok(row.and_then(|row| row.try_into().ok()).map_or(0.0, |bytes| u64::from_le_bytes(bytes) as f64))
}
