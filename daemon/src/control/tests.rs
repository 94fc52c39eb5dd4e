//! Server and client over a real socket, with a made-up mount behind it.

use super::quota::{Amount, Standing};
use super::types::*;
use super::*;
use crate::block::BlockStats;
use crate::error::{Error, ErrorKind};
use crate::task::{Shown, TaskError, TaskKind, TaskRow};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

const MOUNTPOINT: &str = "/mnt/data";

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
fn malformed_requests_get_typed_errors() {
    let fixture = Fixture::new(FakeMount::default());
    for (request, status, kind) in [
        ("GET /v2/nothing HTTP/1.1", "404", "not_found"),
        ("GET /v1/stripe HTTP/1.1", "400", "invalid"),
        ("PUT /v1/stripe?path=a HTTP/1.1", "400", "invalid"),
        ("GET /v1/hidden-keys?limit=many HTTP/1.1", "400", "invalid"),
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
