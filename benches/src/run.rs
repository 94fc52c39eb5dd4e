//! Rounds over workloads and peers: A B A B, never A A B B, so that the machine's moods meet every peer alike.

use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Sample, Unit};
use crate::harness::process;
use crate::harness::site::Site;
use crate::harness::store::{Counts, Profile};
use crate::harness::system;
use crate::peer::{Kind, Mounted, Peer, Place, Reach};
use crate::workload::{Start, Workload, reading};

/// How often a cache is read through before it counts as full, while reads still reach the store.
const FILL_PASSES: usize = 4;

/// Memory a peer may use beside the data itself.
const BUFFERS: u64 = 1 << 30;

/// The figures of one peer in one series.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// Its name.
    pub peer: String,
    /// A figure for each round; none where the round failed.
    pub values: Vec<Option<f64>>,
    /// CPU seconds of each finished round.
    pub cpu_seconds: Vec<f64>,
    /// Requests to the store in each finished round.
    pub requests: Vec<Counts>,
    /// Why it stopped, if it did.
    pub failure: Option<String>,
}

impl Row {
    /// The figures of the rounds that finished.
    pub fn finished(&self) -> Vec<f64> {
        self.values.iter().copied().flatten().collect()
    }
}

/// One series of one workload over all peers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// The workload's name.
    pub workload: String,
    /// The series.
    pub series: &'static str,
    /// What the figures count.
    pub unit: Unit,
    /// Everything the figures were made with.
    pub configuration: String,
    /// The peer that ratios are taken to.
    pub baseline: String,
    /// One row for each peer that the workload takes.
    pub rows: Vec<Row>,
}

/// A peer in the rounds of one workload.
struct Entrant<'a> {
    peer: &'a dyn Peer,
    place: Place,
    /// Mounted for all rounds, where the workload wants that.
    standing: Option<Mounted>,
    /// Samples of each round.
    rounds: Vec<Option<Vec<Sample>>>,
    failure: Option<String>,
}

/// Runs one workload over the peers it takes.
pub fn run(site: &Site, peers: &[Box<dyn Peer>], workload: &dyn Workload, rounds: usize) -> Result<Vec<Outcome>> {
    let (set, start) = (workload.dataset(), workload.start());
    let takes =
        |peer: &dyn Peer| workload.takes(peer.kind()) && (start == Start::Fresh || peer.caches() || peer.kind() == Kind::Disk);
    site.provide(set)?;
    let mut entrants = Vec::new();
    for peer in peers.iter().filter(|peer| takes(peer.as_ref())) {
        let place = Place::fresh(site, peer.name(), &set.bucket)?;
        entrants.push(Entrant { peer: peer.as_ref(), place, standing: None, rounds: Vec::new(), failure: None });
    }
    for entrant in &mut entrants {
        let prepared = entrant.prepare(site, set, start);
        entrant.note_failure("preparing", prepared);
    }
    for round in 0..rounds {
        // Another one begins each round: what the one before leaves behind (blocks to be discarded, pages to be written) meets all of them alike.
        let begins = round % entrants.len().max(1);
        let (later, first) = entrants.split_at_mut(begins);
        for entrant in first.iter_mut().chain(later) {
            let samples = if entrant.failure.is_none() { entrant.round(site, workload) } else { continue };
            let samples = entrant.note_failure("measuring", samples);
            entrant.rounds.push(samples);
        }
    }
    // Caches of several peers and data sets do not fit on the disk together.
    for entrant in &mut entrants {
        entrant.standing = None;
        site.discard(&entrant.place.state);
    }
    Ok(outcomes(workload, &entrants, rounds))
}

impl Entrant<'_> {
    fn note_failure<T>(&mut self, doing: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                eprintln!("forebay-bench: {} failed while {doing}: {error}", self.peer.name());
                self.failure = Some(format!("{doing}: {error}"));
                // Whatever state it is in, it is not measured again.
                self.standing = None;
                None
            }
        }
    }

    /// Brings the data and the cache into the state the rounds start from.
    fn prepare(&mut self, site: &Site, set: &Dataset, start: Start) -> Result<()> {
        site.once(format!("{}/{}", self.peer.name(), set.bucket), || self.peer.prepare(site, set))?;
        if start == Start::Fresh {
            return Ok(());
        }
        site.ready_store(&self.peer.bucket(set), Profile::LOOPBACK)?;
        let mounted = self.peer.mount(site, &self.place)?;
        if self.peer.kind() == Kind::Mount {
            fill(site, &mounted, set)?;
        }
        if start == Start::Filled {
            self.standing = Some(mounted);
        }
        Ok(())
    }

    fn round(&mut self, site: &Site, workload: &dyn Workload) -> Result<Vec<Sample>> {
        let set = workload.dataset();
        match workload.start() {
            Start::Fresh => {
                let fresh = Place::fresh(site, self.peer.name(), &set.bucket)?;
                self.place = Place { forebay_arguments: workload.forebay_arguments(), ..fresh };
            }
            Start::Restarted => {}
            Start::Filled => system::drop_caches()?,
        }
        // A filled cache asks nothing of the store; warming it for nothing would only take time.
        match workload.start() {
            Start::Filled => site.store.set_profile(workload.profile())?,
            _ => site.ready_store(&self.peer.bucket(set), workload.profile())?,
        }
        let mounted_now = match self.standing {
            Some(_) => None,
            None => Some(self.peer.mount(site, &self.place)?),
        };
        let Some(mounted) = mounted_now.as_ref().or(self.standing.as_ref()) else { return Ok(Vec::new()) };
        // What a peer may keep of the data in memory: its own cache's pages, the mount's, and its buffers.
        system::touch_free_memory(2 * set.bytes() + BUFFERS);
        let mut meter = Meter::new(site, mounted.mountpoint());
        workload.run(mounted, &mut meter)?;
        Ok(meter.finish())
    }
}

/// Reads everything through a mount until the store is no longer asked for data: the first pass checks every byte, and a
/// peer that fills its cache in the background gets the passes it needs.
fn fill(site: &Site, mounted: &Mounted, set: &Dataset) -> Result<()> {
    let Reach::Tree(root) = &mounted.reach else { return Ok(()) };
    let (first_root, first_set) = (root.clone(), set.clone());
    process::with_deadline("fill the cache", site.deadline, move || first_set.verify_below(&first_root))?;
    for _ in 1..FILL_PASSES {
        system::drop_caches()?;
        let before = gets(site)?;
        let (root, set) = (root.clone(), set.clone());
        process::with_deadline("fill the cache", site.deadline, move || reading::read_in_order(&root, &set, 4))?;
        if gets(site)? == before {
            break;
        }
    }
    Ok(())
}

fn gets(site: &Site) -> Result<u64> {
    Ok(site.store.counts()?.get("GET").copied().unwrap_or(0))
}

/// Sorts the samples of all peers by series.
fn outcomes(workload: &dyn Workload, entrants: &[Entrant<'_>], rounds: usize) -> Vec<Outcome> {
    let mut series: Vec<&'static str> = Vec::new();
    for sample in entrants.iter().flat_map(|e| e.rounds.iter().flatten().flatten()) {
        if !series.contains(&sample.series) {
            series.push(sample.series);
        }
    }
    // A workload that every peer failed in is still reported.
    if series.is_empty() {
        series.extend(workload.targets().first().map(|target| target.series));
    }
    let outcome = |series: &&'static str| Outcome {
        workload: workload.name(),
        series,
        unit: workload.unit(),
        configuration: configuration(workload, rounds),
        baseline: workload.baseline().to_owned(),
        rows: entrants.iter().map(|entrant| row(entrant, series)).collect(),
    };
    series.iter().map(outcome).collect()
}

fn row(entrant: &Entrant<'_>, series: &str) -> Row {
    let of_round = |round: &Option<Vec<Sample>>| round.as_ref()?.iter().find(|sample| sample.series == series).cloned();
    let samples: Vec<Option<Sample>> = entrant.rounds.iter().map(of_round).collect();
    Row {
        peer: entrant.peer.name().to_owned(),
        values: samples.iter().map(|sample| Some(sample.as_ref()?.value)).collect(),
        cpu_seconds: samples.iter().flatten().filter_map(|sample| sample.cpu_seconds).collect(),
        requests: samples.into_iter().flatten().map(|sample| sample.requests).collect(),
        failure: entrant.failure.clone(),
    }
}

fn configuration(workload: &dyn Workload, rounds: usize) -> String {
    let parts = [
        workload.dataset().describe(),
        workload.settings(),
        workload.profile().describe(),
        workload.start().describe().to_owned(),
        format!("{rounds} rounds in alternation"),
    ];
    parts.join("; ")
}
