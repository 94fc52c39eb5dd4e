//! Buckets with versions.

use crate::client::{Client, start};
use forebay_loopback_s3::{Server, Versioning};

async fn start_versioned() -> (Server, Client) {
    let (server, client) = start().await;
    let xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(client.put("/data?versioning", &[], xml).await.status, 200);
    (server, client)
}

async fn put(client: &Client, content: &'static str) -> String {
    client.put("/data/k", &[], content).await.header("x-amz-version-id").to_owned()
}

#[tokio::test]
async fn versioning_is_off_until_asked_for() {
    let (server, client) = start().await;
    assert!(client.get("/data?versioning", &[]).await.elements("Status").is_empty());
    let put = client.put("/data/k", &[], "x").await;
    assert!(!put.headers.contains_key("x-amz-version-id"));
    assert_eq!(server.bucket("data").versioning(), Versioning::Off);
}

#[tokio::test]
async fn every_put_is_a_version_of_its_own() {
    let (_server, client) = start_versioned().await;
    assert_eq!(client.get("/data?versioning", &[]).await.element("Status"), "Enabled");
    let (first, second) = (put(&client, "1").await, put(&client, "2").await);
    assert_ne!(first, second);
    let latest = client.get("/data/k", &[]).await;
    assert_eq!((latest.body.as_ref(), latest.header("x-amz-version-id")), (b"2".as_ref(), second.as_str()));
    let old = client.get(&format!("/data/k?versionId={first}"), &[]).await;
    assert_eq!((old.body.as_ref(), old.header("x-amz-version-id")), (b"1".as_ref(), first.as_str()));
    client.get("/data/k?versionId=nonsense", &[]).await.is_error(404, "NoSuchVersion");
}

#[tokio::test]
async fn a_delete_adds_a_marker_and_removing_it_brings_the_key_back() {
    let (_server, client) = start_versioned().await;
    put(&client, "1").await;
    let deleted = client.delete("/data/k", &[]).await;
    assert_eq!(deleted.header("x-amz-delete-marker"), "true");
    let marker = deleted.header("x-amz-version-id").to_owned();
    let gone = client.get("/data/k", &[]).await;
    gone.is_error(404, "NoSuchKey");
    assert_eq!(gone.header("x-amz-delete-marker"), "true");
    client.get(&format!("/data/k?versionId={marker}"), &[]).await.is_error(405, "MethodNotAllowed");
    assert!(client.get("/data?list-type=2", &[]).await.elements("Key").is_empty());
    client.delete(&format!("/data/k?versionId={marker}"), &[]).await;
    assert_eq!(client.get("/data/k", &[]).await.body, "1");
}

#[tokio::test]
async fn a_version_is_deleted_for_good() {
    let (_server, client) = start_versioned().await;
    let (first, second) = (put(&client, "1").await, put(&client, "2").await);
    client.delete(&format!("/data/k?versionId={second}"), &[]).await;
    assert_eq!(client.get("/data/k", &[]).await.header("x-amz-version-id"), first);
    client.delete(&format!("/data/k?versionId={first}"), &[]).await;
    client.get("/data/k", &[]).await.is_error(404, "NoSuchKey");
    assert_eq!(client.delete("/data", &[]).await.status, 204, "nothing is left in the bucket");
}

#[tokio::test]
async fn a_suspended_bucket_overwrites_the_null_version_only() {
    let (server, client) = start().await;
    client.put("/data/k", &[], "before").await;
    server.bucket("data").set_versioning(Versioning::Enabled);
    let kept = put(&client, "kept").await;
    server.bucket("data").set_versioning(Versioning::Suspended);
    assert_eq!(put(&client, "suspended").await, "null");
    assert_eq!(client.get("/data/k?versionId=null", &[]).await.body, "suspended");
    assert_eq!(client.get(&format!("/data/k?versionId={kept}"), &[]).await.body, "kept");
    let listed = client.get("/data?versions", &[]).await;
    assert_eq!(listed.elements("VersionId"), ["null", &kept]);
}

#[tokio::test]
async fn all_versions_are_listed_newest_first_over_any_pages() {
    let (_server, client) = start_versioned().await;
    let mut expected = vec![];
    for content in ["1", "2", "3"] {
        expected.insert(0, put(&client, content).await);
    }
    expected.insert(0, client.delete("/data/k", &[]).await.header("x-amz-version-id").to_owned());
    let other = client.put("/data/l", &[], "x").await.header("x-amz-version-id").to_owned();
    expected.push(other);
    for size in 1..=5 {
        assert_eq!(all_versions(&client, size).await, expected, "pages of {size}");
    }
}

async fn all_versions(client: &Client, size: usize) -> Vec<String> {
    let (mut all, mut marker) = (vec![], String::new());
    loop {
        let page = client.get(&format!("/data?versions&max-keys={size}{marker}"), &[]).await;
        // `VersionId` is in versions and in delete markers; in a page of one kind the order is the page's.
        let markers: Vec<_> = page.elements("DeleteMarker").into_iter().map(version_in).collect();
        let versions = page.elements("Version").into_iter().map(version_in);
        all.extend(markers.into_iter().chain(versions));
        if page.element("IsTruncated") == "false" {
            return all;
        }
        let (key, version) = (page.element("NextKeyMarker"), page.element("NextVersionIdMarker"));
        marker = format!("&key-marker={key}&version-id-marker={version}");
    }
}

fn version_in(xml: &str) -> String {
    let (_, rest) = xml.split_once("<VersionId>").expect("a version id");
    rest.split_once('<').expect("its end").0.to_owned()
}

#[tokio::test]
async fn the_latest_is_marked() {
    let (_server, client) = start_versioned().await;
    put(&client, "1").await;
    put(&client, "2").await;
    assert_eq!(client.get("/data?versions", &[]).await.elements("IsLatest"), ["true", "false"]);
}

#[tokio::test]
async fn a_copy_can_name_a_version() {
    let (_server, client) = start_versioned().await;
    let first = put(&client, "1").await;
    put(&client, "2").await;
    let source = format!("/data/k?versionId={first}");
    let copied = client.put("/data/old", &[("x-amz-copy-source", &source)], "").await;
    assert_eq!(copied.header("x-amz-copy-source-version-id"), first);
    assert_eq!(client.get("/data/old", &[]).await.body, "1");
}
