//! `forebay-bench`: arguments in, report out. Exit codes: 0 done, 1 something failed (a missed target is no failure), 2 usage.

use clap::Parser;
use forebay_benches::harness::error::{At, Error, Result};
use forebay_benches::harness::report::{self, PeerLine, Report};
use forebay_benches::harness::{cleanup, site::Site, system};
use forebay_benches::options::Options;
use forebay_benches::peer::Peer;
use forebay_benches::run::{self, Outcome};
use forebay_benches::target::{self, Judgement, SUBJECT};
use forebay_benches::workload::Workload;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.list { list(&options) } else { measure(&options) };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("forebay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(options: &Options) -> Result<ExitCode> {
    for workload in workloads(options)? {
        println!("{:<34} {}", workload.name(), workload.dataset().describe());
    }
    print!("{}", report::head(&system::describe(), &lines(&options.all_peers())));
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> Result<ExitCode> {
    cleanup::on_signals().at("set up signal handling")?;
    let sizes = options.preset.sizes(options);
    let workloads = workloads(options)?;
    let Field { peers, lines } = field(options)?;
    let machine = system::describe();
    if !options.json {
        print!("{}", report::head(&machine, &lines));
    }
    let store = options.store_dir.join("bench-store");
    let store = system::find_program(&store).ok_or_else(|| {
        Error::program(store.display(), "not found; build it as --help says, or name its directory with --store-dir")
    })?;
    let site = Site::open(&options.work_dir, &store, Duration::from_secs(options.deadline))?;
    let mut all = Vec::new();
    let mut judgements = Vec::new();
    for workload in &workloads {
        let outcomes = run::run(&site, &peers, workload.as_ref(), sizes.rounds)?;
        if !options.json {
            outcomes.iter().for_each(|outcome| print!("{}", report::outcome(outcome)));
        }
        judgements.extend(judge(workload.as_ref(), &outcomes));
        all.extend(outcomes);
    }
    let failed = all.iter().flat_map(|outcome| &outcome.rows).any(|row| row.peer == SUBJECT && row.failure.is_some());
    let report = Report { machine, peers: lines, outcomes: all, judgements };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report has string keys only"));
    } else if report.peers.iter().any(|peer| peer.name == SUBJECT && peer.available) {
        print!("{}", report::judgements(&report.judgements));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The workloads asked for, which the machine must be able to run.
fn workloads(options: &Options) -> Result<Vec<Box<dyn Workload>>> {
    let wanted = |workload: &dyn Workload| {
        options.workloads.is_empty() || options.workloads.iter().any(|prefix| workload.name().starts_with(prefix.as_str()))
    };
    let all = options.preset.workloads(&options.preset.sizes(options));
    let chosen: Vec<Box<dyn Workload>> = all.into_iter().filter(|workload| wanted(workload.as_ref())).collect();
    if chosen.is_empty() {
        return Err(Error::program("workloads", format!("none is named like {:?}; see --list", options.workloads)));
    }
    chosen.iter().try_for_each(|workload| workload.possible())?;
    Ok(chosen)
}

/// Who takes part.
struct Field {
    peers: Vec<Box<dyn Peer>>,
    /// A line about each, and about those that are absent.
    lines: Vec<PeerLine>,
}

/// The peers asked for, which must be there, or all that are.
fn field(options: &Options) -> Result<Field> {
    let required = if options.peers.is_empty() { options.preset.peers() } else { options.peers.clone() };
    let all = options.all_peers();
    if let Some(unknown) = required.iter().find(|name| !all.iter().any(|peer| peer.name() == *name)) {
        return Err(Error::program("peers", format!("there is no '{unknown}'; see --list")));
    }
    let chosen: Vec<Box<dyn Peer>> = all.into_iter().filter(|peer| asked_for(peer.as_ref(), &required)).collect();
    let lines = lines(&chosen);
    if let Some(absent) = lines.iter().find(|line| !line.available && !required.is_empty()) {
        return Err(Error::program(&absent.name, format!("was asked for: {}", absent.version)));
    }
    let peers = chosen.into_iter().zip(&lines).filter(|(_, line)| line.available).map(|(peer, _)| peer).collect();
    Ok(Field { peers, lines })
}

fn asked_for(peer: &dyn Peer, required: &[String]) -> bool {
    if required.is_empty() { !peer.only_if_named() } else { required.iter().any(|name| name == peer.name()) }
}

fn lines(peers: &[Box<dyn Peer>]) -> Vec<PeerLine> {
    let line = |peer: &dyn Peer| {
        let version = peer.version();
        let available = version.is_ok();
        let version = version.unwrap_or_else(|error| error.to_string());
        PeerLine { name: peer.name().to_owned(), version, settings: peer.settings(), available }
    };
    peers.iter().map(|peer| line(peer.as_ref())).collect()
}

/// The verdicts on a workload.
fn judge(workload: &dyn Workload, outcomes: &[Outcome]) -> Vec<Judgement> {
    let of = |outcome: &Outcome| {
        let targets = workload.targets().into_iter().filter(|target| target.series == outcome.series);
        let judged = targets.map(|target| target.judge(outcome));
        judged.chain(target::costs(outcome)).collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(of).collect()
}
