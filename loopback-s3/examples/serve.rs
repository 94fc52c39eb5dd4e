//! Serves the sample data set and some fixtures until interrupted, for a look by hand and for measuring.
//!
//! `cargo run --release -p forebay-loopback-s3 --example serve -- [KEYS]` prints the endpoint; bucket `sample` holds the sample data,
//! `bench` a 1 GiB object in memory and one that is generated, 2,000 objects of 100 KiB, and under `many/` KEYS empty ones.
//! What is put over HTTP with 64 MiB or more goes to files.

use bytes::Bytes;
use forebay_loopback_s3::sample::{SampleSpec, populate};
use forebay_loopback_s3::{Body, Etag, LoopbackConfig, LoopbackS3, Object, Server, Spill, Texture, UnixMs};
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let keys = std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(0);
    let spill = Some(Spill { threshold_bytes: 64 << 20, directory: None });
    let config = LoopbackConfig { spill, ..LoopbackConfig::default() };
    let server = LoopbackS3::start_blocking(config, 2)?;
    populate(&server.bucket("sample"), "", &SampleSpec::default());
    fill(&server, keys);
    println!("{}", server.endpoint_url());
    loop {
        std::thread::park();
    }
}

fn fill(server: &Server, keys: u64) {
    let bucket = server.bucket("bench");
    bucket.put_synthetic("synthetic", 1, 1 << 30, Texture::Noise);
    let mut block = vec![0; 1 << 30];
    Texture::Noise.fill(2, 0, &mut block);
    let etag: Etag = bucket.put("small/0", "", []).object.as_ref().expect("an object").etag;
    let block = Bytes::from(block);
    bucket.put_object("memory", Object { body: Body::Stored(block.clone()), etag, headers: None }, UnixMs::now());
    for number in 0..2000 {
        let at = number * (100 << 10);
        let body = Body::Stored(block.slice(at..at + (100 << 10)));
        bucket.put_object(&format!("small/{number}"), Object { body, etag, headers: None }, UnixMs::now());
    }
    let begun = Instant::now();
    bucket.insert_synthetic(keys, |number| format!("many/{number:08}"), 0);
    eprintln!("{keys} keys inserted in {:?}", begun.elapsed());
}
