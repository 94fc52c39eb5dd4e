//! Reading files.

use crate::fixtures::mounted::{Options, Site, eventually};
use forebay_loopback_s3::{Op, Texture};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    Texture::Noise.fill(seed, 0, &mut bytes);
    bytes
}

#[test]
fn a_file_is_its_object_byte_for_byte_at_every_size() {
    let site = Site::new();
    let sizes = [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1 << 20, (3 << 20) + 5];
    for (i, len) in sizes.into_iter().enumerate() {
        site.bucket().put_synthetic(&format!("f{i}"), i as u64, len, Texture::Noise);
        site.bucket().put_synthetic(&format!("t{i}"), i as u64, len, Texture::Text);
    }
    let mount = site.mount(&Options::default());
    for round in ["cold", "cached"] {
        for (i, len) in sizes.into_iter().enumerate() {
            for name in [format!("f{i}"), format!("t{i}")] {
                assert!(mount.read(&name).unwrap() == site.bucket().bytes(&name).unwrap(), "{round} read of {name}, {len} bytes");
                mount.forget_pages(&name);
            }
        }
        mount.settle();
    }
}

#[test]
fn a_cached_file_needs_no_request() {
    let site = Site::new();
    site.bucket().put_synthetic("data", 7, 40 << 20, Texture::Noise);
    let mount = site.mount(&Options::default());
    let cold = mount.read("data").unwrap();
    mount.settle();
    mount.forget_pages("data");
    site.server.requests().reset();
    assert!(mount.read("data").unwrap() == cold);
    assert_eq!(site.count(Op::GetObject), 0);
    assert!(mount.fs.status().hit_bytes >= 40 << 20, "the second read came from the cache: {:?}", mount.fs.status().hit_bytes);
}

#[test]
fn every_byte_is_fetched_once_by_eight_readers_of_one_cold_file() {
    let site = Site::new();
    let len = 24 << 20;
    site.bucket().put_synthetic("data", 3, len, Texture::Noise);
    let mount = site.mount(&Options::default());
    let expected = Arc::new(noise(3, len));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let expected = Arc::clone(&expected);
            let mount = &mount;
            scope.spawn(move || assert!(mount.read("data").unwrap() == *expected));
        }
    });
    assert_eq!(mount.fs.status().fetched_bytes, len);
}

#[test]
fn random_reads_at_odd_offsets_are_right_cold_and_cached() {
    let site = Site::new();
    let len = 20 << 20;
    site.bucket().put_synthetic("noise", 5, len, Texture::Noise);
    site.bucket().put_synthetic("text", 5, len, Texture::Text);
    for name in ["noise", "text"] {
        let expected = site.bucket().bytes(name).unwrap();
        let mount = site.mount(&Options::default());
        let file = std::fs::File::open(mount.path(name)).unwrap();
        let mut state = 88172645463325252u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for i in 0..400 {
            let offset = random(len + 1000);
            let mut buffer = vec![0; random(300_000) as usize + 1];
            let read = file.read_at(&mut buffer, offset).unwrap();
            let from = offset.min(len) as usize;
            let to = (from + buffer.len()).min(len as usize);
            assert!(read <= to - from && (read > 0 || from == to), "read {i} of {name}: {read} bytes at {offset}");
            assert!(buffer[..read] == expected[from..from + read], "read {i} of {name} at {offset}");
            if i % 50 == 49 {
                mount.settle();
                mount.forget_pages(name);
            }
        }
    }
}

#[test]
fn the_same_content_is_stored_once() {
    let site = Site::new();
    for name in ["a", "b", "c"] {
        site.bucket().put_synthetic(name, 9, 8 << 20, Texture::Noise);
    }
    let mount = site.mount(&Options::default());
    for name in ["a", "b", "c"] {
        mount.read(name).unwrap();
        mount.settle();
    }
    let stats = mount.fs.status().cache;
    assert_eq!(stats.blocks, 64, "{stats:?}");
    assert_eq!(stats.dedup_bytes, 16 << 20, "{stats:?}");
}

#[test]
fn text_takes_less_room_than_it_has_bytes() {
    let site = Site::new();
    site.bucket().put_synthetic("text", 1, 16 << 20, Texture::Text);
    let mount = site.mount(&Options::default());
    mount.read("text").unwrap();
    mount.settle();
    let stats = mount.fs.status().cache;
    assert_eq!(stats.plain_bytes, 16 << 20, "{stats:?}");
    assert!(stats.stored_bytes < stats.plain_bytes * 3 / 4, "{stats:?}");
}

#[test]
fn a_file_larger_than_the_cache_is_read_whole_and_the_cache_stays_in_bounds() {
    let site = Site::new();
    let len = 384 << 20;
    site.bucket().put_synthetic("big", 2, len, Texture::Noise);
    let options = Options { cache_size: forebay_daemon::units::ByteCount(128 << 20), ..Options::default() };
    let mount = site.mount(&options);
    assert!(mount.read("big").unwrap() == noise(2, len));
    mount.settle();
    let stats = mount.fs.status().cache;
    assert!(stats.stored_bytes <= stats.capacity_bytes, "{stats:?}");
    assert!(stats.evicted_blocks > 0, "{stats:?}");
}

#[test]
fn small_files_in_order_are_fetched_before_they_are_asked_for() {
    let site = Site::new();
    site.bucket().insert_synthetic(300, |i| format!("d/{i:05}"), 20_000);
    let mount = site.mount(&Options::default());
    for i in 0..20 {
        mount.read(&format!("d/{i:05}")).unwrap();
    }
    // Far behind the reader, and nobody opened it.
    eventually("file 25 is fetched ahead", || !site.server.requests().gets_of("d/00025").is_empty());
    for i in 20..300 {
        assert!(mount.read(&format!("d/{i:05}")).unwrap() == noise(i, 20_000), "file {i}");
    }
    assert_eq!(site.count(Op::GetObject), 300, "each object is fetched once");
}

#[test]
fn mmap_shows_the_objects_bytes() {
    let site = Site::new();
    let len = 3 << 20;
    site.bucket().put_synthetic("m", 4, len, Texture::Noise);
    let mount = site.mount(&Options::default());
    let file = std::fs::File::open(mount.path("m")).unwrap();
    let expected = noise(4, len);
    // SAFETY: a private read-only mapping of a file that nobody truncates; unmapped below.
    let mapped = unsafe {
        let address = rustix::mm::mmap(
            std::ptr::null_mut(),
            len as usize,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE,
            &file,
            0,
        )
        .unwrap();
        std::slice::from_raw_parts(address.cast::<u8>(), len as usize)
    };
    assert!(mapped == expected);
    // SAFETY: `mapped` is not used after this.
    unsafe { rustix::mm::munmap(mapped.as_ptr().cast_mut().cast(), len as usize).unwrap() };
}

#[test]
fn a_read_only_mount_refuses_to_be_written() {
    let site = Site::new();
    site.bucket().put("x", "x", []);
    let mount = site.mount(&Options { read_only: true, ..Options::default() });
    for attempt in [
        std::fs::write(mount.path("x"), "y"),
        std::fs::write(mount.path("new"), "y"),
        std::fs::create_dir(mount.path("d")),
        std::fs::remove_file(mount.path("x")),
        std::fs::rename(mount.path("x"), mount.path("z")),
    ] {
        assert_eq!(attempt.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}
