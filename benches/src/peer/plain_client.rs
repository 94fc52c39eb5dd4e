//! The plain client: `bench-blast`, parallel GETs over kept-alive connections with the bytes dropped. What the store and
//! the cores give to someone who needs no file system: the measure for cold reads.

use super::{Kind, Mounted, Peer, Place, Reach};
use crate::harness::data::Dataset;
use crate::harness::error::{At, Error, Result};
use crate::harness::process;
use crate::harness::site::Site;
use crate::harness::store;
use crate::harness::system;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The size of the ranges that large objects are read in.
pub(super) const RANGE: u64 = 8 << 20;

/// The client.
#[derive(Debug)]
pub struct PlainClient {
    /// The `bench-blast` program.
    pub program: PathBuf,
    /// Connections for large objects.
    pub connections: usize,
}

/// The client, pointed at a store.
#[derive(Clone, Debug)]
pub struct Session {
    program: PathBuf,
    pub(super) connections: usize,
    bucket_url: String,
    url_file: PathBuf,
    pub(super) store: SocketAddr,
    pub(super) bucket: String,
    /// For files of its own.
    pub(super) state: PathBuf,
}

impl Peer for PlainClient {
    fn name(&self) -> &'static str {
        "plain-client"
    }

    fn kind(&self) -> Kind {
        Kind::Client
    }

    fn caches(&self) -> bool {
        false
    }

    fn version(&self) -> Result<String> {
        system::find_program(&self.program)
            .map(|_| "bench-blast".to_owned())
            .ok_or_else(|| Error::program(self.program.display(), "not found"))
    }

    fn settings(&self) -> String {
        format!("ranges of {} MiB over {} connections; small objects whole", RANGE >> 20, self.connections)
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        Ok(Mounted::without_mount(Reach::Client(Session {
            program: self.program.clone(),
            connections: self.connections,
            bucket_url: format!("{}/{}", site.store.url(), place.bucket),
            url_file: site.directory("urls")?.join(&place.bucket),
            store: site.store.address(),
            bucket: place.bucket.clone(),
            state: place.state.clone(),
        })))
    }
}

impl Session {
    /// Reads large objects in ranges; MiB/s.
    pub fn read_ranges(&self, set: &Dataset, deadline: Duration) -> Result<f64> {
        let each = set.objects.first().map_or(0, |object| object.bytes);
        let range = RANGE.min(each);
        let count = each / range * set.objects.len() as u64;
        let sizes = ["--range".to_owned(), range.to_string(), "--size".to_owned(), each.to_string()];
        self.blast(set, self.connections, count, &sizes, "MiB/s=", deadline)
    }

    /// Reads small objects whole, over as many connections as there are readers elsewhere; objects/s.
    pub fn read_whole(&self, set: &Dataset, connections: usize, deadline: Duration) -> Result<f64> {
        self.blast(set, connections, set.objects.len() as u64, &[], "ops/s=", deadline)
    }

    /// Lists all keys, page by page; how many there are.
    pub fn list_all(&self) -> Result<usize> {
        Ok(store::keys(self.store, &self.bucket)?.len())
    }

    fn blast(
        &self,
        set: &Dataset,
        connections: usize,
        count: u64,
        sizes: &[String],
        field: &str,
        deadline: Duration,
    ) -> Result<f64> {
        write_urls(&self.url_file, &self.bucket_url, set)?;
        let mut command = Command::new(&self.program);
        command.arg("get").arg(&self.url_file).arg(connections.to_string()).arg(deadline.as_secs().to_string());
        command.arg("--count").arg(count.to_string()).args(sizes);
        let printed = process::run(command, deadline)?;
        let value = |name: &str| printed.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<f64>().ok());
        match (value(field), value("errs=")) {
            (Some(figure), Some(0.0)) => Ok(figure),
            _ => Err(Error::program("bench-blast", printed.trim())),
        }
    }
}

fn write_urls(file: &Path, bucket_url: &str, set: &Dataset) -> Result<()> {
    let urls: String = set.objects.iter().map(|object| format!("{bucket_url}/{}\n", object.key)).collect();
    std::fs::write(file, urls).at(file.display())
}
