use super::*;
use futures::TryStreamExt;
use std::os::unix::fs::symlink;

fn fixture() -> (tempfile::TempDir, DirectoryStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("sub")).expect("created");
    std::fs::write(dir.path().join("secret"), b"outside").expect("written");
    std::fs::write(root.join("a"), b"inside").expect("written");
    std::fs::write(root.join("sub/b"), b"below").expect("written");
    let store = DirectoryStore::open(&root).expect("opened");
    (dir, store)
}

fn get(key: &str) -> GetRequest {
    GetRequest { key: key.into(), range: None, pin: None }
}

async fn listed(store: &DirectoryStore, prefix: &str, delimited: bool) -> Vec<String> {
    let mut keys = Vec::new();
    let mut request = ListRequest { prefix: prefix.into(), delimited, token: None, start_after: None, max_keys: Some(2) };
    loop {
        let page = store.list(request.clone()).await.expect("listed");
        keys.extend(page.objects.into_iter().map(|object| object.key));
        keys.extend(page.prefixes);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn symlinks_never_lead_out() {
    let (dir, store) = fixture();
    let root = dir.path().join("root");
    symlink("../secret", root.join("relative")).expect("linked");
    symlink(dir.path().join("secret"), root.join("absolute")).expect("linked");
    symlink("..", root.join("sub/up")).expect("linked");
    symlink("../..", root.join("sub/out")).expect("linked");
    symlink("../a", root.join("sub/good")).expect("linked");
    for key in
        ["relative", "absolute", "sub/out/secret", "sub/up/a", "../secret", "sub/../a", "/a", "sub//b", "./a", "sub", "a\0"]
    {
        assert!(matches!(store.get(get(key)).await, Err(StoreError::NotFound { .. })), "{key}");
    }
    let body = store.get(get("sub/good")).await.expect("inside").body;
    assert_eq!(body.try_collect::<Vec<_>>().await.expect("read").concat(), b"inside");
    assert_eq!(listed(&store, "", false).await, ["a", "sub/b", "sub/good"]);
}

#[tokio::test]
async fn special_files_are_no_objects() {
    let (dir, store) = fixture();
    let fifo = dir.path().join("root/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("made");
    assert!(matches!(store.head("fifo").await, Err(StoreError::NotFound { .. })));
    assert_eq!(listed(&store, "", true).await, ["a", "sub/"]);
}

#[tokio::test]
async fn a_file_changed_while_it_is_read_ends_with_an_error() {
    let (dir, store) = fixture();
    let path = dir.path().join("root/large");
    std::fs::write(&path, vec![1; 3 << 20]).expect("written");
    let mut body = store.get(get("large")).await.expect("there").body;
    let first = body.try_next().await.expect("unchanged").expect("a piece");
    assert!(first.iter().all(|byte| *byte == 1));
    std::fs::write(&path, vec![2; 3 << 20]).expect("written");
    assert!(matches!(body.try_next().await, Err(StoreError::Changed { .. })));
}

#[tokio::test]
async fn a_replaced_file_is_another_version() {
    let (dir, store) = fixture();
    let pin = store.head("a").await.expect("there").pin;
    std::fs::write(dir.path().join("root/new"), b"INSIDE").expect("written");
    std::fs::rename(dir.path().join("root/new"), dir.path().join("root/a")).expect("renamed");
    let request = GetRequest { pin: Some(pin), ..get("a") };
    assert!(matches!(store.get(request).await, Err(StoreError::Changed { .. })));
}

#[tokio::test]
async fn a_listing_goes_on_when_files_vanish_and_appear() {
    let (dir, store) = fixture();
    let root = dir.path().join("root");
    for name in ["b", "c", "d", "e"] {
        std::fs::write(root.join(name), b"").expect("written");
    }
    let mut request = ListRequest { prefix: String::new(), delimited: true, token: None, start_after: None, max_keys: Some(2) };
    let first = store.list(request.clone()).await.expect("listed");
    std::fs::remove_file(root.join("b")).expect("removed");
    std::fs::remove_file(root.join("c")).expect("removed");
    request.token = first.next;
    let second = store.list(request).await.expect("listed");
    let keys: Vec<_> = second.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["d", "e"]);
}
