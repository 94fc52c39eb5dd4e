//! Server and client over a real socket, with a made-up mount behind it.

use super::care::{CareInfo, CareOrder, CareReport, FsckReport};
use super::diff::{Change, DiffEntry, DigestInfo, Kind as DiffKind};
use super::dra::{AssociationInfo, AssociationOrder, AssociationUpdate, Event};
use super::figures::{FiguresInfo, SnapshotFiguresInfo};
use super::hsm::{HsmInfo, HsmRequest};
use super::lines::Items;
use super::publish::{SnapshotExportInfo, SnapshotExportOrder};
use super::quota::{Amount, Standing};
use super::snapshot::{RestoredInfo, SnapshotInfo, SnapshotOrder};
use super::task::encode_path;
use super::types::*;
use super::*;
use crate::block::BlockStats;
use crate::config::{OnConflict, RepositorySettings};
use crate::error::{Error, ErrorKind};
use crate::ids::{AssociationId, Epoch, Ino};
use crate::meta::{AssociationState, EventBits, SnapshotRow};
use crate::task::{Shown, TaskError, TaskKind, TaskRow};
use crate::vfs::{AssociationChange, AssociationView, Figures, PublishState, PublishView};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

const MOUNTPOINT: &str = "/mnt/data";

fn association(path: &[u8], auto_import: EventBits, url: &str) -> AssociationInfo {
    let view = AssociationView {
        id: AssociationId(3),
        root: Ino(7),
        prefix: String::new(),
        settings: RepositorySettings::plain(url, Duration::from_secs(1)),
        path: path.to_vec(),
        url: url.into(),
        options: BTreeMap::new(),
        state: AssociationState::Misconfigured,
        failure: "no".into(),
        created_ns: 1_000_000_000,
        auto_import,
        auto_export: EventBits::default(),
        on_conflict: OnConflict::Skip,
        deleted_files: 0,
    };
    view.into()
}

#[derive(Default)]
struct FakeMount {
    busy: bool,
    set: Mutex<Vec<(Vec<u8>, Layout)>>,
    quotas: Mutex<Vec<(Vec<u8>, QuotaRequest)>>,
    orders: Mutex<Vec<TaskOrder>>,
}

#[async_trait]
impl ControlTarget for FakeMount {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status {
            repository: "s3://bucket".into(),
            mountpoint: MOUNTPOINT.into(),
            pid: 42,
            version: "0".into(),
            uptime_seconds: 1,
            deployment: "persistent".into(),
            dirty_copies: 1,
            lacking_copies: 0,
            unexported: Unexported::default(),
            associations: Vec::new(),
            auto_import: Vec::new(),
            cache: BlockStats { blocks: 3, ..BlockStats::default() },
            devices: Vec::new(),
            memory_bytes: 1,
            memory_target_bytes: 2,
            hit_bytes: 3,
            fetched_bytes: 4,
            requests: Requests { get: 5, ..Requests::default() },
            hidden_keys: 2,
            dirty_bytes: 0,
        })
    }
    async fn request_unmount(&self) -> Result<(), ApiError> {
        if self.busy { Err(ApiError::new(ApiErrorKind::Busy, "'/mnt/data' is busy")) } else { Ok(()) }
    }
    async fn stripe(&self, path: &[u8]) -> Result<StripeInfo, ApiError> {
        match path {
            b"a dir/\xff&=%" => Ok(StripeInfo { stripe_count: 2, stripe_size: 1 << 20, inherited: true }),
            _ => Err(Error::new(ErrorKind::NotFound, "'x' does not exist").into()),
        }
    }
    async fn set_stripe(&self, path: &[u8], layout: Layout) -> Result<(), ApiError> {
        self.set.lock().unwrap().push((path.to_vec(), layout));
        Ok(())
    }
    async fn hidden_keys(&self, limit: usize) -> Result<HiddenKeys, ApiError> {
        let all = ["a//b", "../c"].map(|key| HiddenKey { key: key.into(), reason: "no".into() });
        Ok(HiddenKeys { keys: all.into_iter().take(limit).collect(), total: 2 })
    }
    async fn quota(&self, path: &[u8], kind: Kind, id: u64) -> Result<QuotaInfo, ApiError> {
        let amount = Amount { used: 1, soft: 2, hard: 3, standing: Standing::Grace, grace_until: Some(4) };
        Ok(QuotaInfo { kind, id, path: Some(String::from_utf8_lossy(path).into_owned()), bytes: amount, inodes: amount })
    }
    async fn set_quota(&self, path: &[u8], request: QuotaRequest) -> Result<(), ApiError> {
        self.quotas.lock().unwrap().push((path.to_vec(), request));
        Ok(())
    }
    async fn quotas(&self) -> Result<QuotaReport, ApiError> {
        let info = self.quota(b"p", Kind::Project, 9).await?;
        Ok(QuotaReport { quotas: vec![info], graces: Vec::new(), counting: true })
    }
    async fn hsm(&self, path: &[u8]) -> Result<HsmInfo, ApiError> {
        let state = crate::vfs::HsmState { exists: true, norelease: path == b"pin\xff", ..crate::vfs::HsmState::default() };
        Ok(hsm::HsmInfo::new(&state, "NOOP", None, None))
    }
    async fn set_hsm(&self, path: &[u8], request: HsmRequest) -> Result<HsmInfo, ApiError> {
        if request.clear.contains(&"dirty".to_owned()) {
            return Err(ApiError::new(ApiErrorKind::Invalid, "no"));
        }
        self.hsm(path).await
    }
    async fn start_task(&self, order: TaskOrder) -> Result<TaskInfo, ApiError> {
        let paths = order.paths();
        self.orders.lock().unwrap().push(order.clone());
        let row = TaskRow { options: order.options, ..TaskRow::new(TaskKind::Import, paths, 1_000_000_000) };
        Ok(TaskInfo::from(Shown { id: 7, expected: None, row }))
    }
    async fn tasks(&self) -> Result<Vec<TaskInfo>, ApiError> {
        Ok(vec![self.task(1, Duration::ZERO).await?])
    }
    async fn task(&self, id: u64, wait: Duration) -> Result<TaskInfo, ApiError> {
        if wait > Duration::from_secs(1) {
            return Err(TaskError::NoSuchTask(id).into());
        }
        Ok(TaskInfo::from(Shown { id, expected: None, row: TaskRow::new(TaskKind::Export, Vec::new(), 0) }))
    }
    async fn cancel_task(&self, id: u64) -> Result<TaskInfo, ApiError> {
        Err(TaskError::Ended { id, state: "SUCCEEDED" }.into())
    }
    async fn create_association(&self, order: AssociationOrder) -> Result<AssociationInfo, ApiError> {
        let new = order.request(Duration::from_secs(1));
        assert_eq!(new.further.get("event-queue-url").map(String::as_str), Some("q"), "{new:?}");
        Ok(association(&new.path, new.auto_import, &new.settings.url))
    }
    async fn associations(&self) -> Result<Vec<AssociationInfo>, ApiError> {
        Ok(vec![association(b"a b", EventBits::default(), "s3://other")])
    }
    async fn association(&self, path: &[u8]) -> Result<AssociationInfo, ApiError> {
        Ok(association(path, EventBits::default(), "s3://other"))
    }
    async fn update_association(&self, path: &[u8], update: AssociationUpdate) -> Result<AssociationInfo, ApiError> {
        let change = AssociationChange::from(update);
        Ok(association(path, change.auto_import.expect("the test changes it"), "s3://other"))
    }
    async fn delete_association(&self, path: &[u8], delete_data: bool) -> Result<AssociationInfo, ApiError> {
        Ok(AssociationInfo { deleted_files: delete_data.into(), ..association(path, EventBits::default(), "s3://other") })
    }
    async fn take_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError> {
        let (name, path) = order.parts();
        let row = SnapshotRow {
            epoch: Epoch(7),
            root: Ino::ROOT,
            created_ns: 1_500_000_000,
            path,
            deleting: false,
            materialized: true,
        };
        Ok(SnapshotInfo::new(&name, &row))
    }
    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ApiError> {
        self.take_snapshot(SnapshotOrder { name: encode_path(b"a\xff"), path: String::new() }).await.map(|info| vec![info])
    }
    async fn clone_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError> {
        self.take_snapshot(order).await
    }
    async fn restore_snapshot(&self, name: &[u8]) -> Result<RestoredInfo, ApiError> {
        Ok(RestoredInfo { names: name.len() as u64, removed: 2, contents: 3, attributes: 4 })
    }
    async fn export_snapshot(&self, order: SnapshotExportOrder) -> Result<SnapshotExportInfo, ApiError> {
        let order = order.request(&RepositorySettings::plain("s3://mounted", Duration::from_secs(1)));
        let state = PublishState::Failed(Error::new(ErrorKind::Stale, "gone"));
        let view = PublishView { id: 7, order, state, entries: 1, referenced: 2, copied: 3, sent: 4, sent_bytes: 5, kept: 6 };
        Ok(view.into())
    }
    async fn snapshot_export(&self, id: u64) -> Result<SnapshotExportInfo, ApiError> {
        let order = SnapshotExportOrder { name: "a%FF".into(), url: "s3://b".into(), copy: true };
        Ok(SnapshotExportInfo { id, ..self.export_snapshot(order).await? })
    }
    async fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotInfo, ApiError> {
        if name != b"a\xff" {
            return Err(Error::new(ErrorKind::NotFound, "there is no such snapshot").into());
        }
        Ok(self.snapshots().await?.remove(0))
    }
    async fn figures(&self, path: Option<&[u8]>) -> Result<FiguresInfo, ApiError> {
        let logical_bytes = path.map_or(7, |path| path.len() as u64);
        let blocks = Figures { referenced_bytes: 12, unique_bytes: 6, stored_bytes: 4, ..Figures::default() };
        Ok(Figures { logical_bytes, unlisted_directories: path.map(|_| 1), ..blocks }.into())
    }
    async fn snapshot_figures(&self, name: &[u8]) -> Result<SnapshotFiguresInfo, ApiError> {
        Ok(SnapshotFiguresInfo { seen: self.figures(Some(name)).await?, frees_bytes: 9 })
    }
    fn diff_snapshots(&self, name: Vec<u8>, other: Option<Vec<u8>>) -> Items<DiffEntry> {
        let entry = |n: u64| {
            let path = format!("{} {n}", encode_path(&name));
            DiffEntry { change: Change::Renamed, kind: DiffKind::File, path, from: other.as_deref().map(encode_path) }
        };
        let failure = ApiError::new(ApiErrorKind::Failed, "and no more");
        let entries: Vec<_> = (0..2000).map(entry).map(Ok).chain([Err(failure)]).collect();
        Box::pin(futures::stream::iter(entries))
    }
    fn digest_snapshot(&self, name: Vec<u8>) -> Items<DigestInfo> {
        let digest = Some(encode_path(&name)).filter(|name| name != "cut");
        let infos = [None, digest].map(|digest| Ok(DigestInfo { digest, entries: 1, bytes: 2 }));
        Box::pin(futures::stream::iter(infos))
    }
    async fn start_care(&self, order: CareOrder) -> Result<CareInfo, ApiError> {
        match order {
            CareOrder::Fsck { repair: true, data_rate: Some(7) } => self.care(3, Duration::ZERO).await,
            _ => Err(ApiError::new(ApiErrorKind::Busy, "another is under way")),
        }
    }
    async fn care(&self, id: u64, wait: Duration) -> Result<CareInfo, ApiError> {
        let report = FsckReport { found: 2, repaired: 1, ..FsckReport::default() };
        let report = (wait > Duration::ZERO).then_some(CareReport::Fsck(report));
        Ok(CareInfo { id, done: 5, total: 10, report })
    }
    async fn set_quota_grace(&self, grace: GraceInfo) -> Result<(), ApiError> {
        if grace.kind == Kind::Group { Err(Error::new(ErrorKind::Io, "no").into()) } else { Ok(()) }
    }
}

struct Fixture {
    runtime: tokio::runtime::Runtime,
    dir: SocketDir,
    mount: Arc<FakeMount>,
    server: Option<ControlServer>,
    _temp: tempfile::TempDir,
}

impl Fixture {
    fn new(mount: FakeMount) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let temp = tempfile::tempdir().unwrap();
        let uid = temp.path().metadata().unwrap().uid();
        let mut fixture = Fixture {
            runtime,
            dir: SocketDir::at(temp.path().join("sockets"), uid),
            mount: Arc::new(mount),
            server: None,
            _temp: temp,
        };
        fixture.server = Some(fixture.serve().unwrap());
        fixture
    }

    fn serve(&self) -> Result<ControlServer, ServeError> {
        ControlServer::start(self.runtime.handle(), &self.dir, Path::new(MOUNTPOINT), self.mount.clone())
    }

    fn client(&self) -> Client {
        Client::of_mountpoint(&self.dir, Path::new(MOUNTPOINT)).unwrap()
    }
}

fn api_kind<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ApiErrorKind {
    match result.unwrap_err() {
        ClientError::Api(error) => error.kind,
        other => panic!("not the daemon's error: {other}"),
    }
}

#[test]
fn status_comes_back_whole() {
    let fixture = Fixture::new(FakeMount::default());
    let status = fixture.client().status().unwrap();
    assert_eq!((status.pid, status.cache.blocks, status.requests.get), (42, 3, 5));
}

#[test]
fn a_busy_mount_says_so() {
    assert!(Fixture::new(FakeMount::default()).client().unmount().is_ok());
    let busy = Fixture::new(FakeMount { busy: true, ..FakeMount::default() });
    assert_eq!(api_kind(busy.client().unmount()), ApiErrorKind::Busy);
}

#[test]
fn paths_are_bytes() {
    let fixture = Fixture::new(FakeMount::default());
    let path = b"a dir/\xff&=%";
    assert!(fixture.client().stripe(path).unwrap().inherited);
    fixture.client().set_stripe(path, StripeRequest { stripe_count: 3, stripe_size: 131072 }).unwrap();
    let expected = (path.to_vec(), Layout { stripe_count: 3, stripe_size: 131072 });
    assert_eq!(*fixture.mount.set.lock().unwrap(), [expected]);
}

#[test]
fn errors_keep_their_kind_and_words() {
    let fixture = Fixture::new(FakeMount::default());
    let error = fixture.client().stripe(b"x").unwrap_err();
    assert_eq!(error.to_string(), "'x' does not exist");
    assert_eq!(api_kind(fixture.client().stripe(b"x")), ApiErrorKind::NotFound);
}

#[test]
fn the_limit_of_hidden_keys_is_kept() {
    let keys = Fixture::new(FakeMount::default()).client().hidden_keys(1).unwrap();
    assert_eq!((keys.keys.len(), keys.keys[0].key.as_str(), keys.total), (1, "a//b", 2));
}

#[test]
fn quotas_are_asked_for_and_set() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let info = client.quota(b"a b", Kind::Group, 7).unwrap();
    assert_eq!((info.kind, info.id, info.path.as_deref(), info.bytes.grace_until), (Kind::Group, 7, Some("a b"), Some(4)));
    let report = client.quotas().unwrap();
    assert_eq!((report.quotas.len(), report.counting), (1, true));
    let request = QuotaRequest {
        kind: Kind::User,
        id: 5,
        bytes_soft: None,
        bytes_hard: Some(1 << 30),
        inodes_soft: Some(0),
        inodes_hard: None,
    };
    client.set_quota(b"", request).unwrap();
    assert_eq!(*fixture.mount.quotas.lock().unwrap(), [(Vec::new(), request)]);
    let grace = |kind| client.set_quota_grace(GraceInfo { kind, bytes_seconds: 1, inodes_seconds: 2 });
    grace(Kind::User).unwrap();
    assert_eq!(api_kind(grace(Kind::Group)), ApiErrorKind::Failed);
}

#[test]
fn states_are_asked_for_and_set() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let info = client.hsm(b"pin\xff").unwrap();
    assert_eq!((info.flags, info.archive_id, info.action.as_str()), (0x11, 1, "NOOP"));
    assert_eq!(info.states, ["exists", "norelease"]);
    let request = |set: &[&str], clear: &[&str]| HsmRequest {
        set: set.iter().map(|name| (*name).to_owned()).collect(),
        clear: clear.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(client.set_hsm(b"pin\xff", &request(&["norelease"], &[])).unwrap(), info);
    assert_eq!(api_kind(client.set_hsm(b"f", &request(&[], &["dirty"]))), ApiErrorKind::Invalid);
}

#[test]
fn malformed_requests_get_typed_errors() {
    let fixture = Fixture::new(FakeMount::default());
    for (request, status, kind) in [
        ("GET /v2/nothing HTTP/1.1", "404", "not_found"),
        ("GET /v1/stripe HTTP/1.1", "400", "invalid"),
        ("PUT /v1/stripe?path=a HTTP/1.1", "400", "invalid"),
        ("GET /v1/hidden-keys?limit=many HTTP/1.1", "400", "invalid"),
        ("GET /v1/hsm HTTP/1.1", "400", "invalid"),
        ("PUT /v1/hsm?path=a HTTP/1.1", "400", "invalid"),
        ("GET /v1/quota?path=&kind=nobody HTTP/1.1", "400", "invalid"),
        ("GET /v1/quota?path=&kind=user&id=x HTTP/1.1", "400", "invalid"),
    ] {
        let answer = raw(fixture.server.as_ref().unwrap().path(), request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(&format!("\"kind\":\"{kind}\"")), "{request}: {answer}");
    }
}

fn raw(socket: &Path, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_second_daemon_on_a_mount_point_is_refused() {
    let fixture = Fixture::new(FakeMount::default());
    assert!(matches!(fixture.serve(), Err(ServeError::InUse { .. })));
    assert!(fixture.client().status().is_ok(), "the first one still answers");
}

#[test]
fn a_stopped_daemon_leaves_no_socket() {
    let mut fixture = Fixture::new(FakeMount::default());
    fixture.server.take().unwrap().stop(fixture.runtime.handle());
    assert!(fixture.dir.sockets().unwrap().is_empty());
    let gone = Client::of_mountpoint(&fixture.dir, Path::new(MOUNTPOINT));
    assert!(matches!(gone, Err(ClientError::NoDaemon(_))));
}

#[test]
fn the_socket_of_a_killed_daemon_is_passed_over_removed_and_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let dir = SocketDir::at(temp.path().join("sockets"), temp.path().metadata().unwrap().uid());
    dir.ensure().unwrap();
    let dead = || drop(std::os::unix::net::UnixListener::bind(dir.socket(Path::new(MOUNTPOINT))).unwrap());
    dead();
    assert_eq!(dir.sockets().unwrap().len(), 1);
    assert!(Client::all(&dir).unwrap().is_empty());
    assert!(dir.sockets().unwrap().is_empty(), "listing removed it");

    dead();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = ControlServer::start(runtime.handle(), &dir, Path::new(MOUNTPOINT), Arc::new(FakeMount::default())).unwrap();
    assert_eq!(Client::all(&dir).unwrap().len(), 1);
    server.stop(runtime.handle());
}

#[test]
fn tasks_are_made_shown_and_canceled() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let path = b"100%/\xff\n/\xc3\xbc";
    let order = TaskOrder {
        kind: "import".into(),
        paths: vec![task::encode_path(path)],
        options: [("prune".into(), "true".into())].into(),
        report: None,
    };
    assert_eq!((order.paths[0].as_str(), order.paths()), ("100%25/%FF%0A/\u{fc}", vec![path.to_vec()]));
    let made = client.start_task(&order).unwrap();
    assert_eq!((made.id, made.state.as_str(), made.has_ended, made.created), (7, "PENDING", false, 1.0));
    assert_eq!((&made.paths, &made.options), (&order.paths, &order.options));
    assert_eq!(client.tasks().unwrap()[0].kind, "export");
    assert_eq!(client.task(3, Duration::from_millis(10)).unwrap().id, 3);
    assert_eq!(api_kind(client.task(3, Duration::from_secs(20))), ApiErrorKind::NotFound);
    assert_eq!(api_kind(client.cancel_task(3)), ApiErrorKind::Invalid);
    let unknown = TaskOrder { kind: "mow".into(), ..order };
    assert_eq!(unknown.request().unwrap_err().kind, ApiErrorKind::Unsupported);
}

#[test]
fn associations_are_made_shown_changed_and_deleted() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let order = AssociationOrder {
        path: task::encode_path(b"100%/\xff"),
        url: "s3://bucket/p".into(),
        options: [("event-queue-url".into(), "q".into()), ("region".into(), "r".into())].into(),
        auto_import: vec![Event::New, Event::Deleted],
        auto_export: vec![],
        on_conflict: OnConflict::Fail,
    };
    let made = client.create_association(&order).unwrap();
    assert_eq!((made.id.as_str(), made.path.as_str(), made.url.as_str()), ("dra-3", "/100%25/%FF", "s3://bucket/p"));
    assert_eq!((made.auto_import, made.lifecycle.as_str()), (vec![Event::New, Event::Deleted], "MISCONFIGURED"));
    assert_eq!((made.failure.as_deref(), made.created, made.on_conflict), (Some("no"), 1.0, OnConflict::Skip));
    assert_eq!(client.associations().unwrap()[0].path, "/a b");
    assert_eq!(client.association(b"x/\xff&").unwrap().path, "/x/%FF&");
    let update = AssociationUpdate { auto_import: Some(vec![Event::Changed]), ..AssociationUpdate::default() };
    assert_eq!(client.update_association(b"x", &update).unwrap().auto_import, [Event::Changed]);
    assert_eq!(client.delete_association(b"x", true).unwrap().deleted_files, 1);
    assert_eq!(client.delete_association(b"x", false).unwrap().deleted_files, 0);
}

#[test]
fn snapshots_are_named_by_any_bytes() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let order = SnapshotOrder { name: encode_path(b"a\xff"), path: encode_path(b"some/dir") };
    let taken = client.take_snapshot(&order).expect("takes");
    assert_eq!((taken.name.as_str(), taken.path.as_str(), taken.created, taken.epoch), ("a%FF", "/some/dir", 1.5, 7));
    assert!(taken.materialized);
    assert_eq!(client.snapshots().expect("lists").len(), 1);
    assert_eq!(client.snapshot(b"a\xff").expect("shows").path, "/");
    let none = |error: ClientError| matches!(error, ClientError::Api(error) if error.kind == ApiErrorKind::NotFound);
    assert!(none(client.snapshot(b"b").expect_err("there is none")));
    assert_eq!(client.clone_snapshot(&order).expect("clones").name, "a%FF");
    assert_eq!(client.restore_snapshot(b"a\xff").expect("restores").names, 2);
    let order = SnapshotExportOrder { name: encode_path(b"a\xff"), url: "s3://b/p".into(), copy: false };
    let export = client.export_snapshot(&order).expect("begins");
    assert_eq!((export.id, export.name.as_str(), export.url.as_str()), (7, "a%FF", "s3://b/p"));
    assert_eq!((export.state.as_str(), export.error.as_deref(), export.has_ended()), ("FAILED", Some("gone"), true));
    assert_eq!(client.snapshot_export(9).expect("is there").id, 9);
    assert_eq!(client.delete_snapshot(b"a\xff").expect("deletes").name, "a%FF");
    assert!(none(client.delete_snapshot(b"b").expect_err("there is none")));
}

#[test]
fn figures_come_with_their_ratios() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let all = client.figures().expect("counts");
    assert_eq!((all.figures.logical_bytes, all.figures.unlisted_directories), (7, None));
    assert_eq!((all.dedup_ratio, all.compression_ratio), (Some(2.0), Some(1.5)));
    let some = client.figures_of(b"x/\xff&").expect("counts");
    assert_eq!((some.figures.logical_bytes, some.figures.unlisted_directories), (4, Some(1)));
    assert_eq!(client.figures_of(b"").expect("counts").figures.logical_bytes, 0, "the root is a path as well");
    let snapshot = client.snapshot_figures(b"a\xff").expect("counts");
    assert_eq!((snapshot.frees_bytes, snapshot.seen.figures.logical_bytes), (9, 2));
    let nothing = FiguresInfo::from(Figures::default());
    assert_eq!((nothing.dedup_ratio, nothing.compression_ratio), (None, None));
}

#[test]
fn answers_of_many_items_come_one_by_one_with_what_ended_them() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let (mut seen, mut some) = (Vec::new(), 0);
    let all = client.diff_snapshots(b"a\xff", Some(b"b&"), &mut |entry| {
        seen.push(entry);
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(all, Err(ClientError::Api(error)) if error.message == "and no more"));
    assert_eq!((seen.len(), seen[1999].path.as_str(), seen[0].from.as_deref()), (2000, "a%FF 1999", Some("b&")));
    let broken_off = client.diff_snapshots(b"a", None, &mut |entry| {
        assert_eq!(entry.from, None);
        some += 1;
        if some < 600 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    });
    assert!(broken_off.is_ok() && some == 600, "{broken_off:?}");
    let mut heard = 0;
    assert_eq!(client.digest_snapshot(b"x\xff", &mut |_| heard += 1).expect("a digest").digest.as_deref(), Some("x%FF"));
    assert_eq!(heard, 2);
    assert!(matches!(client.digest_snapshot(b"cut", &mut |_| ()), Err(ClientError::Transport { .. })));
}

#[test]
fn care_is_begun_and_asked_about_until_it_ends() {
    let fixture = Fixture::new(FakeMount::default());
    let client = fixture.client();
    let begun = client.start_care(&CareOrder::Fsck { repair: true, data_rate: Some(7) }).unwrap();
    assert_eq!((begun.id, begun.done, begun.total, begun.report), (3, 5, 10, None));
    let ended = client.care(begun.id, Duration::from_millis(1)).unwrap();
    let Some(CareReport::Fsck(report)) = ended.report else { panic!("{ended:?}") };
    assert!(report.has_problems() && report.found == 2);
    let refused = client.start_care(&CareOrder::Gc {}).unwrap_err();
    assert!(matches!(&refused, ClientError::Api(error) if error.kind == ApiErrorKind::Busy), "{refused}");
    let refused = client.start_care(&CareOrder::Scrub { rate: 1 }).unwrap_err();
    assert_eq!(refused.to_string(), "another is under way");
}
