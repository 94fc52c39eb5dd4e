//! The sample data set.

use crate::client::start;
use forebay_loopback_s3::sample::{SampleSpec, populate};

const SMALL: SampleSpec = SampleSpec { seed: 1, images: 3, shards: 2, shards_bytes: 2 << 20, texts: 1, text_bytes: 64 << 10 };

#[tokio::test]
async fn the_same_seed_gives_the_same_set() {
    let (server, client) = start().await;
    let (first, second) = (server.bucket("first"), server.bucket("second"));
    let summary = populate(&first, "", &SMALL);
    assert_eq!(summary, populate(&second, "", &SMALL));
    assert_eq!(first.keys(), second.keys());
    for key in first.keys() {
        let (one, other) = (client.get(&format!("/first/{key}"), &[]).await, client.get(&format!("/second/{key}"), &[]).await);
        assert_eq!((&one.body, one.header("etag")), (&other.body, other.header("etag")), "{key}");
    }
}

#[tokio::test]
async fn the_layout() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    let summary = populate(&bucket, "", &SMALL);
    let expected = [
        "README.txt",
        "checkpoints/",
        "images/train/0001.jpg",
        "images/train/0002.jpg",
        "images/train/0003.jpg",
        "shards/latest.tar",
        "shards/train-000.tar",
        "shards/train-001.tar",
        "text/part-000.jsonl",
    ];
    assert_eq!(bucket.keys(), expected);
    assert_eq!(summary.objects, expected.len() as u64);
    let link = client.get("/data/shards/latest.tar", &[]).await;
    assert_eq!((link.body.as_ref(), link.header("x-amz-meta-file-permissions")), (b"train-001.tar".as_ref(), "0120777"));
    let marker = client.head("/data/checkpoints/", &[]).await;
    assert_eq!((marker.header("content-length"), marker.header("x-amz-meta-file-permissions")), ("0", "040755"));
    let mtime = client.head("/data/README.txt", &[]).await.header("x-amz-meta-file-mtime").to_owned();
    assert_eq!(mtime, "1767225600000000000ns");
    let plain = client.head("/data/images/train/0001.jpg", &[]).await;
    assert!(!plain.headers.keys().any(|name| name.as_str().starts_with("x-amz-meta-")));
}

#[tokio::test]
async fn tar_reads_a_shard() {
    let (server, _client) = start().await;
    let bucket = server.bucket("data");
    populate(&bucket, "", &SMALL);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("shard.tar");
    std::fs::write(&path, bucket.bytes("shards/train-000.tar").expect("the shard")).expect("written");
    let listed = std::process::Command::new("tar").arg("tf").arg(&path).output().expect("tar runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    assert_eq!(names.lines().next(), Some("train-000/000000.bin"));
    assert_eq!(names.lines().count(), 7);
}
