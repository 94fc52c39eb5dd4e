//! Metadata engines on Forebay's schema: the rows, keys and batches of the real thing, one engine per run.
//!
//! `cargo run --release -p forebay-benches --features meta-engines --bin meta_engines -- --entries 1000000`
//! runs every engine that was built in, each workload in a process of its own, and prints a table. What the figures decided is in
//! `docs/decisions/0001-metadata-engine.md`.

mod candidates;
mod figures;
mod rows;
mod workloads;

use clap::{Parser, ValueEnum};
use figures::Figures;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What can go wrong in a bench: anything, and then it ends.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// An engine that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The daemon's own: redb with a journal and memtables in front.
    Local,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// LMDB through heed.
    Heed,
}

/// A part of the measurement that has a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Import, flush.
    Import,
    /// Open what was imported; lookups, scan.
    Read,
    /// Open what was imported; churn, commit latencies.
    Write,
    /// Churn until killed.
    Crash,
    /// Open after the kill, and check.
    Recover,
}

/// Measures metadata engines on Forebay's schema.
#[derive(Parser)]
struct Args {
    /// Engines to measure; all that were built in by default.
    #[arg(long, value_enum)]
    engine: Vec<Engine>,
    /// Files in the directory.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Memory for caches and write buffers, in MiB.
    #[arg(long, default_value_t = 96)]
    memory_mib: usize,
    /// How often everything is measured.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Where databases are put.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Runs one part, in the directory of a database; prints its figures as JSON.
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    if let (Some(role), [engine]) = (args.role, args.engine.as_slice()) {
        let store = || candidates::open(*engine, &args.dir, args.memory_mib << 20);
        let figures = workloads::run(role, &store, args.entries)?;
        println!("{}", figures.to_json());
        return Ok(());
    }
    let engines = if args.engine.is_empty() { Engine::value_variants().to_vec() } else { args.engine.clone() };
    let mut columns = Vec::new();
    for round in 1..=args.rounds {
        for &engine in &engines {
            eprintln!("{engine:?}, round {round}");
            columns.push((format!("{engine:?} {round}"), measure(&args, engine)?));
        }
    }
    println!("{} entries, {} MiB, {} cores", args.entries, args.memory_mib, std::thread::available_parallelism()?);
    println!("{}", figures::table(&columns));
    Ok(())
}

fn measure(args: &Args, engine: Engine) -> Outcome<Figures> {
    let dir = tempfile::tempdir_in(&args.dir)?;
    let db = dir.path().join("db");
    let mut figures = Figures::default();
    figures.join("import", child(args, engine, Role::Import, &db)?);
    figures.set("import: disk MiB", figures::disk_mib(&db)?);
    figures.join("read", child(args, engine, Role::Read, &db)?);
    figures.join("write", child(args, engine, Role::Write, &db)?);
    let acknowledged = kill_while_writing(args, engine, &db)?;
    let recovered = child(args, engine, Role::Recover, &db)?;
    let found = recovered.get("last transaction found").unwrap_or(-1.0);
    figures.join("after kill -9", recovered);
    figures.set("after kill -9: transactions lost", (acknowledged as f64 - found).max(0.0));
    Ok(figures)
}

fn command(args: &Args, engine: Engine, role: Role, db: &Path) -> Outcome<Command> {
    let name = |value: &dyn Fn() -> Option<String>| value().ok_or("a value without a name");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--engine", &name(&|| engine.to_possible_value().map(|v| v.get_name().to_owned()))?]);
    command.args(["--role", &name(&|| role.to_possible_value().map(|v| v.get_name().to_owned()))?]);
    command.args(["--entries", &args.entries.to_string(), "--memory-mib", &args.memory_mib.to_string()]);
    command.arg("--dir").arg(db).stdout(Stdio::piped());
    Ok(command)
}

fn child(args: &Args, engine: Engine, role: Role, db: &Path) -> Outcome<Figures> {
    let output = command(args, engine, role, db)?.output()?;
    if !output.status.success() {
        return Err(format!("{engine:?} {role:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Figures::from_json(&String::from_utf8(output.stdout)?)
}

/// Starts a writer that reports each transaction it was promised, and kills it; the last one promised.
fn kill_while_writing(args: &Args, engine: Engine, db: &Path) -> Outcome<u64> {
    let mut child = command(args, engine, Role::Crash, db)?.spawn()?;
    let mut stdout = child.stdout.take().ok_or("no output of the writer")?;
    let mut report = [0; 8];
    let mut acknowledged = 0;
    while acknowledged < workloads::KILL_AFTER {
        stdout.read_exact(&mut report)?;
        acknowledged = u64::from_le_bytes(report);
    }
    child.kill()?;
    while stdout.read_exact(&mut report).is_ok() {
        acknowledged = u64::from_le_bytes(report);
    }
    child.wait()?;
    Ok(acknowledged)
}
