//! Stopping and starting again.

use crate::fixtures::mounted::{Options, Site};
use forebay_daemon::config::{Deployment, MetadataTtl};
use forebay_loopback_s3::{Op, Texture};
use std::os::unix::fs::MetadataExt;

#[test]
fn a_restart_serves_names_attributes_and_data_without_the_store() {
    let site = Site::new();
    site.bucket().insert_synthetic(50, |i| format!("d/{i:03}"), 200_000);
    site.bucket().put_synthetic("big", 1, 20 << 20, Texture::Noise);
    let options = Options { devices: 2, ttl: MetadataTtl::Indefinite, ..Options::default() };
    let read_all = |mount: &crate::fixtures::mounted::Mounted| {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(mount.path("d")).unwrap() {
            let entry = entry.unwrap();
            all.push((entry.file_name(), entry.metadata().unwrap().ino(), std::fs::read(entry.path()).unwrap()));
        }
        all.push(("big".into(), 0, mount.read("big").unwrap()));
        all
    };
    let before = {
        let mount = site.mount(&options);
        let all = read_all(&mount);
        mount.settle();
        all
    };
    let mount = site.mount(&options);
    site.server.requests().reset();
    assert!(read_all(&mount) == before);
    assert_eq!((site.count(Op::GetObject), site.count(Op::ListObjects)), (0, 0));
}

#[test]
fn a_cache_in_use_is_refused() {
    let site = Site::new();
    let _mount = site.mount(&Options::default());
    let error = site.start(&Options::default()).err().expect("refused").to_string();
    assert!(error.contains("in use by another forebay") && error.contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn a_cache_of_another_bucket_is_refused_and_left_alone() {
    let site = Site::new();
    site.bucket().put("x", "x", []);
    drop(site.mount(&Options::default()));
    let mut settings = site.settings(&Options::default());
    site.server.bucket("other");
    settings.repository.url = "s3://other".into();
    let error = forebay_daemon::engine::FileSystem::start(settings, || {}).err().expect("refused").to_string();
    assert!(error.contains("belongs to s3://bucket"), "{error}");
    assert_eq!(site.mount(&Options::default()).read("x").unwrap(), b"x");
}

#[test]
fn scratch_is_kept_after_a_clean_stop_and_emptied_after_an_unclean_one() {
    let site = Site::new();
    site.bucket().put_synthetic("f", 1, 1 << 20, Texture::Noise);
    let options = Options { deployment: Deployment::Scratch, ..Options::default() };
    let blocks = |settle: bool| {
        let mount = site.mount(&options);
        let before = mount.fs.status().cache.blocks;
        if settle {
            mount.read("f").unwrap();
            mount.settle();
        }
        before
    };
    assert_eq!(blocks(true), 0);
    assert_eq!(blocks(false), 8, "kept after a clean stop");
    std::fs::File::create(site.cache_dirs(1)[0].join("unclean")).unwrap();
    assert_eq!(blocks(false), 0, "empty after an unclean stop");
}
