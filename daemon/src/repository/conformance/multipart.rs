//! Multipart uploads.

use super::*;
use crate::repository::testing::{collect, get, list_all, list_request, put_request};
use crate::repository::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopySource, Part, PartRequest, Upload, UploadsPage, UploadsRequest,
};
use crate::repository::{ObjectHeaders, Pin, Precondition, StoreError};
use bytes::Bytes;

conform! {
    memory: parts_become_one_object completion_heeds_its_precondition wrong_parts_are_refused aborted_uploads_are_gone
        parts_can_be_copied uploads_are_listed_however_paged;
    directory: parts_become_one_object completion_heeds_its_precondition wrong_parts_are_refused aborted_uploads_are_gone
        parts_can_be_copied uploads_are_listed_however_paged;
    s3: parts_become_one_object completion_heeds_its_precondition wrong_parts_are_refused aborted_uploads_are_gone
        parts_can_be_copied uploads_are_listed_however_paged;
    s3_with_versions: parts_become_one_object completion_heeds_its_precondition;
}

const PART: usize = 5 << 20;

fn data(length: usize) -> Bytes {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

async fn begin(store: &dyn ObjectStore, key: &str) -> Upload {
    let user_metadata = [("file-owner".to_owned(), "7".to_owned())].into();
    let headers = ObjectHeaders { user_metadata, ..ObjectHeaders::default() };
    store.begin_multipart(BeginRequest { key: key.into(), headers }).await.expect("begun")
}

async fn put(store: &dyn ObjectStore, upload: &Upload, number: u32, body: Bytes) -> Part {
    let request = PartRequest { upload: upload.clone(), number, body: body.into() };
    store.put_part(request).await.expect("kept")
}

async fn complete(
    store: &dyn ObjectStore,
    upload: &Upload,
    parts: &[Part],
    precondition: Precondition,
) -> Result<Pin, StoreError> {
    store.complete_multipart(CompleteRequest { upload: upload.clone(), parts: parts.to_vec(), precondition }).await
}

async fn content(store: &dyn ObjectStore, key: &str) -> Vec<u8> {
    collect(store.get(get(key)).await.expect("there").body).await.expect("read")
}

async fn parts_become_one_object(subject: &impl Subject) {
    let store = subject.store();
    let whole = data(2 * PART + 1000);
    let upload = begin(store, "dir/ä key").await;
    let third = put(store, &upload, 3, whole.slice(2 * PART..)).await;
    put(store, &upload, 1, data(PART + 1)).await;
    let first = put(store, &upload, 1, whole.slice(..PART)).await;
    let second = put(store, &upload, 2, whole.slice(PART..2 * PART)).await;
    assert!(list_all(store, list_request("", false), None).await.0.is_empty(), "nothing shows before the end");
    let pin = complete(store, &upload, &[first, second, third], Precondition::Absent).await.expect("made");
    let head = store.head("dir/ä key").await.expect("there");
    assert_eq!((head.size, &head.pin), (whole.len() as u64, &pin));
    assert_eq!(head.user_metadata.get("file-owner").map(String::as_str), Some("7"));
    assert!(content(store, "dir/ä key").await == whole);
    assert_eq!(list_all(store, list_request("", false), None).await.0, ["dir/ä key"]);
    let again = complete(store, &upload, &[], Precondition::Any).await;
    assert!(matches!(again, Err(StoreError::NoSuchUpload { .. })), "{again:?}");
}

async fn completion_heeds_its_precondition(subject: &impl Subject) {
    let store = subject.store();
    let upload = begin(store, "key").await;
    let part = [put(store, &upload, 1, "mine".into()).await];
    let stale = Pin { etag: "\"0123\"".into(), version: None };
    let missing = complete(store, &upload, &part, Precondition::Is(stale.clone())).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    let theirs = store.put(put_request("key", "theirs", Precondition::Any)).await.expect("written");
    assert!(matches!(complete(store, &upload, &part, Precondition::Absent).await, Err(StoreError::Changed { .. })));
    assert!(matches!(complete(store, &upload, &part, Precondition::Is(stale)).await, Err(StoreError::Changed { .. })));
    assert_eq!(content(store, "key").await, b"theirs");
    complete(store, &upload, &part, Precondition::Is(theirs)).await.expect("unchanged, and the upload is still there");
    assert_eq!(content(store, "key").await, b"mine");
}

async fn wrong_parts_are_refused(subject: &impl Subject) {
    let store = subject.store();
    let upload = begin(store, "key").await;
    let part = put(store, &upload, 1, "one".into()).await;
    let other = Part { number: 2, ..part.clone() };
    let replaced = put(store, &upload, 1, "replaced".into()).await;
    for wrong in [vec![other], vec![part]] {
        assert!(
            matches!(complete(store, &upload, &wrong, Precondition::Any).await, Err(StoreError::Permanent { .. })),
            "{wrong:?}"
        );
    }
    let elsewhere = Upload { key: "other".into(), ..upload.clone() };
    let request = PartRequest { upload: elsewhere, number: 1, body: "x".into() };
    assert!(matches!(store.put_part(request).await, Err(StoreError::NoSuchUpload { .. })));
    complete(store, &upload, &[replaced], Precondition::Any).await.expect("made");
    assert_eq!(content(store, "key").await, b"replaced");
}

async fn aborted_uploads_are_gone(subject: &impl Subject) {
    let store = subject.store();
    let upload = begin(store, "key").await;
    let part = put(store, &upload, 1, "x".into()).await;
    store.abort_multipart(&upload).await.expect("dropped");
    assert!(matches!(store.abort_multipart(&upload).await, Err(StoreError::NoSuchUpload { .. })));
    let request = PartRequest { upload: upload.clone(), number: 1, body: "x".into() };
    assert!(matches!(store.put_part(request).await, Err(StoreError::NoSuchUpload { .. })));
    assert!(matches!(complete(store, &upload, &[part], Precondition::Any).await, Err(StoreError::NoSuchUpload { .. })));
    assert!(store.list_multipart(UploadsRequest::default()).await.expect("listed").uploads.is_empty());
    assert!(matches!(store.head("key").await, Err(StoreError::NotFound { .. })));
}

async fn parts_can_be_copied(subject: &impl Subject) {
    let store = subject.store();
    let whole = data(PART + 2000);
    let old = store.put(put_request("from here", "old", Precondition::Any)).await.expect("written");
    let body = whole.clone().into();
    let pin = store.put(crate::repository::write::PutRequest { body, ..put_request("from here", "", Precondition::Any) }).await;
    let pin = pin.expect("written");
    let upload = begin(store, "key").await;
    let copy = |pin: &Pin, number, range| {
        let source = CopySource { key: "from here".into(), pin: pin.clone() };
        store.copy_part(CopyPartRequest { upload: upload.clone(), number, source, range })
    };
    let first = copy(&pin, 1, 7..PART as u64 + 7).await.expect("copied");
    let last = put(store, &upload, 2, "the end".into()).await;
    assert!(matches!(copy(&pin, 3, 0..whole.len() as u64 + 1).await, Err(StoreError::Permanent { .. })));
    if old.version.is_none() {
        assert!(matches!(copy(&old, 3, 0..1).await, Err(StoreError::Changed { .. })));
    }
    complete(store, &upload, &[first, last], Precondition::Any).await.expect("made");
    assert!(content(store, "key").await == [&whole[7..PART + 7], b"the end"].concat());
}

async fn uploads_are_listed_however_paged(subject: &impl Subject) {
    let store = subject.store();
    let mut begun = Vec::new();
    for key in ["p/b", "p/a b%", "p/b", "q", "p/ä"] {
        begun.push(begin(store, key).await);
    }
    begun.retain(|upload| upload.key.starts_with("p/"));
    begun.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    for max_uploads in [None, Some(1), Some(2), Some(4)] {
        let mut request = UploadsRequest { prefix: "p/".into(), max_uploads, ..UploadsRequest::default() };
        let mut listed = Vec::new();
        loop {
            let UploadsPage { uploads, next } = store.list_multipart(request.clone()).await.expect("listed");
            assert!(max_uploads.is_none_or(|most| uploads.len() <= most as usize));
            assert!(uploads.iter().all(|pending| pending.begun_ns > 1_500_000_000_000_000_000));
            listed.extend(uploads.into_iter().map(|pending| pending.upload));
            request.token = next;
            if request.token.is_none() {
                break;
            }
        }
        assert_eq!(listed, begun, "{max_uploads:?}");
    }
}
