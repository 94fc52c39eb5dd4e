//! The object store that every peer reads from: `bench-store` on a free loopback port, with its knobs.

use super::data::{Dataset, Object, for_each_parallel};
use super::error::{At, Error, Result};
use super::http::Client;
use super::process::Daemon;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(20);
/// Connections for filling and warming.
const THREADS: usize = 4;

/// How far away the store seems to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Milliseconds before each reply.
    pub latency_ms: u32,
    /// Megabytes a second for each connection; 0 = as fast as it goes.
    pub bandwidth_mbps: u32,
}

impl Profile {
    /// As near as loopback is.
    pub const LOOPBACK: Profile = Profile { latency_ms: 0, bandwidth_mbps: 0 };
    /// As S3 looks from the same region.
    pub const REGION: Profile = Profile { latency_ms: 20, bandwidth_mbps: 90 };

    /// For names: `loopback`, `20ms`.
    pub fn name(self) -> String {
        if self == Profile::LOOPBACK { "loopback".to_owned() } else { format!("{}ms", self.latency_ms) }
    }

    /// For the configuration of a figure.
    pub fn describe(self) -> String {
        if self == Profile::LOOPBACK {
            return "store on loopback, no added latency".to_owned();
        }
        format!("store with {} ms before each reply and {} MB/s per connection", self.latency_ms, self.bandwidth_mbps)
    }
}

/// Requests by operation.
pub type Counts = BTreeMap<String, u64>;

/// A running store.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    _daemon: Daemon,
}

impl Store {
    /// Starts it with its objects in `root`.
    pub fn start(binary: &Path, root: &Path, log: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(binary);
        command.arg("--root").arg(root).arg("--port").arg(address.port().to_string());
        let mut daemon = Daemon::spawn(command, log)?;
        let end = Instant::now() + READY;
        while std::net::TcpStream::connect_timeout(&address, READY).is_err() {
            if daemon.ended().is_some() || Instant::now() > end {
                return Err(Error::program("bench-store", format!("does not serve: {}", daemon.last_words())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Store { address, _daemon: daemon })
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets latency and bandwidth from now on.
    pub fn set_profile(&self, profile: Profile) -> Result<()> {
        let Profile { latency_ms, bandwidth_mbps } = profile;
        self.get(&format!("/-/set?lat={latency_ms}&bw={bandwidth_mbps}")).map(drop)
    }

    /// Requests served so far.
    pub fn counts(&self) -> Result<Counts> {
        Ok(parse_counts(&self.get("/-/stats")?))
    }

    /// Creates the bucket and PUTs every object.
    pub fn fill(&self, set: &Dataset) -> Result<()> {
        Client::connect(self.address)?.put(&format!("/{}", set.bucket), 0, |_| Ok(()))?;
        self.each(&set.objects, |client, object: &Object| {
            let path = format!("/{}/{}", set.bucket, object.key);
            client.put(&path, object.bytes, |out| object.each_chunk(|chunk| out.write_all(chunk).at(&path)))
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Deletes every object of a bucket whose key begins with this; how many.
    pub fn delete_below(&self, bucket: &str, prefix: &str) -> Result<usize> {
        let keys: Vec<String> = keys(self.address, bucket)?.into_iter().filter(|key| key.starts_with(prefix)).collect();
        self.each(&keys, |client, key: &String| client.delete(&format!("/{bucket}/{key}")))?;
        Ok(keys.len())
    }

    /// Reads every object of a bucket once, at full speed, so that the store serves it from memory.
    pub fn warm(&self, bucket: &str) -> Result<()> {
        self.set_profile(Profile::LOOPBACK)?;
        self.each(&keys(self.address, bucket)?, |client, key: &String| client.get_and_drop(&format!("/{bucket}/{key}")))
    }

    fn get(&self, path: &str) -> Result<String> {
        Client::connect(self.address)?.get(path)
    }

    fn each<I: Sync>(&self, items: &[I], work: impl Fn(&mut Client, &I) -> Result<()> + Sync) -> Result<()> {
        let groups: Vec<&[I]> = items.chunks(items.len().div_ceil(THREADS).max(1)).collect();
        for_each_parallel(&groups, THREADS, |group| {
            let mut client = Client::connect(self.address)?;
            group.iter().try_for_each(|item| work(&mut client, item))
        })
    }
}

/// Every key of a bucket, asked for page by page (the keys of benches need no escaping).
pub fn keys(address: SocketAddr, bucket: &str) -> Result<Vec<String>> {
    let mut client = Client::connect(address)?;
    let mut keys: Vec<String> = Vec::new();
    loop {
        let after = keys.last().map_or("", String::as_str);
        let page = client.get(&format!("/{bucket}?list-type=2&start-after={after}"))?;
        let known = keys.len();
        keys.extend(page.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())));
        if keys.len() == known {
            return Ok(keys);
        }
    }
}

/// A loopback address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).at("a free loopback port")
}

/// Lines like `GET n=12 MiB=3.5`.
fn parse_counts(text: &str) -> Counts {
    let line = |line: &str| {
        let (operation, rest) = line.split_once(" n=")?;
        let count = rest.split(' ').next()?.parse().ok()?;
        (operation != "-").then(|| (operation.to_owned(), count))
    };
    text.lines().filter_map(line).collect()
}

/// What was served between two counts; operations that were not are left out.
pub fn difference(before: &Counts, after: &Counts) -> Counts {
    let since = |(operation, count): (&String, &u64)| {
        let more = count - before.get(operation).copied().unwrap_or(0);
        (more > 0).then(|| (operation.clone(), more))
    };
    after.iter().filter_map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_subtracted() {
        let before = parse_counts("- n=3 MiB=0.0\nGET n=12 MiB=3.5\nLIST n=1 MiB=0.0\n");
        let after = parse_counts("- n=4 MiB=0.0\nGET n=20 MiB=9.5\nHEAD n=2 MiB=0.0\nLIST n=1 MiB=0.0\n");
        assert_eq!(before.len(), 2);
        assert_eq!(difference(&before, &after), Counts::from([("GET".to_owned(), 8), ("HEAD".to_owned(), 2)]));
    }
}
