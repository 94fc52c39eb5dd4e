//! A mount of a bucket on moto, an S3 server by people who do not know this project. CI starts it from PyPI and names it in
//! `FOREBAY_MOTO_SERVER`; without that there is nothing to ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SIGNED: &str =
    "Authorization: AWS4-HMAC-SHA256 Credential=moto/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";

struct Moto {
    process: Child,
    address: SocketAddr,
}

impl Moto {
    fn start() -> Option<Self> {
        let program = std::env::var_os("FOREBAY_MOTO_SERVER")?;
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Moto { process, address };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(moto)
    }

    /// A PUT. Moto checks no signature, but wants one where an object is replaced.
    fn put(&self, path: &str, body: &[u8], headers: &str) {
        self.ask("PUT", path, body, &format!("{SIGNED}{headers}"));
    }

    /// Makes a queue, to which a bucket sends what happens in it. Returns its URL.
    fn queue_of(&self, bucket: &str) -> String {
        let signed = SIGNED.replace("/s3/", "/sqs/");
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let made = self.ask("POST", "", b"Action=CreateQueue&QueueName=changes&Version=2012-11-05", &format!("{signed}{form}"));
        let url =
            made.split("<QueueUrl>").nth(1).and_then(|rest| rest.split("</QueueUrl>").next()).unwrap_or_else(|| panic!("{made}"));
        let configuration = "<NotificationConfiguration><QueueConfiguration><Id>all</Id>\
            <Queue>arn:aws:sqs:us-east-1:123456789012:changes</Queue><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>\
            </QueueConfiguration></NotificationConfiguration>";
        self.put(&format!("{bucket}?notification"), configuration.as_bytes(), "");
        url.to_owned()
    }

    /// A request that succeeds.
    fn ask(&self, method: &str, path: &str, body: &[u8], headers: &str) -> String {
        let mut connection = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} /{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(body).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Mount {
    home: tempfile::TempDir,
}

impl Mount {
    fn forebay(args: &[&str]) -> Output {
        let keys = [("AWS_ACCESS_KEY_ID", "moto"), ("AWS_SECRET_ACCESS_KEY", "moto")];
        Command::new(env!("CARGO_BIN_EXE_forebay")).args(args).envs(keys).output().unwrap()
    }

    fn new(moto: &Moto, options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("mnt")).unwrap();
        let mount = Mount { home };
        let (mnt, cache) = (mount.path("mnt"), mount.path("cache"));
        let endpoint = format!("http://{}", moto.address);
        let args = ["mount", "s3://second-opinion/data", mnt.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
        let more =
            ["--cache-size", "256M", "--read-only", "--region", "us-east-1", "--force-path-style", "--endpoint-url", &endpoint];
        let out = Self::forebay(&[&args[..], &more, options].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().canonicalize().unwrap().join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mnt = self.path("mnt");
        if !Self::forebay(&["umount", mnt.to_str().unwrap()]).status.success() {
            let _ = forebay_fuse::Unmounter::new(&mnt).detach();
        }
    }
}

#[test]
fn names_attributes_ranges_and_replaced_objects_on_somebody_elses_server() {
    use std::os::unix::fs::MetadataExt;
    let Some(moto) = Moto::start() else {
        println!("FOREBAY_MOTO_SERVER is not set: nothing was asked");
        return;
    };
    let large: Vec<u8> = (0..20_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    moto.put("second-opinion", b"", "");
    moto.put("second-opinion/data/large", &large, "");
    moto.put("second-opinion/data/empty", b"", "");
    moto.put("second-opinion/data/deep/er/a%20name%20%2B%20more", b"odd", "");
    moto.put("second-opinion/data/script", b"#!", "x-amz-meta-file-permissions: 0100750\r\nx-amz-meta-file-owner: 1234\r\n");
    moto.put("second-opinion/elsewhere", b"outside", "");
    for entry in 0..1200 {
        moto.put(&format!("second-opinion/data/many/{entry:05}"), b"x", "");
    }

    let mount = Mount::new(&moto, &["--posix-metadata", "eager", "--metadata-ttl", "1"]);
    let root = mount.path("mnt");
    let mut names: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["deep", "empty", "large", "many", "script"]);
    assert_eq!(std::fs::read_dir(root.join("many")).unwrap().count(), 1200, "two pages");
    assert_eq!(std::fs::read(root.join("deep/er/a name + more")).unwrap(), b"odd");
    assert_eq!(std::fs::read(root.join("empty")).unwrap(), b"");
    assert!(std::fs::read(root.join("large")).unwrap() == large);
    let script = std::fs::metadata(root.join("script")).unwrap();
    assert_eq!((script.mode() & 0o7777, script.uid()), (0o750, 1234));

    moto.put("second-opinion/data/large", b"replaced", "");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(std::fs::read(root.join("large")).unwrap(), b"replaced");
}

/// Waits for a condition, at most half a minute.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_somebody_elses_server_tells_in_a_queue_comes_in_by_itself() {
    let Some(moto) = Moto::start() else {
        println!("FOREBAY_MOTO_SERVER is not set: nothing was asked");
        return;
    };
    moto.put("second-opinion", b"", "");
    for key in ["changes", "goes"] {
        moto.put(&format!("second-opinion/data/d/{key}"), b"old", "");
    }
    let url = moto.queue_of("second-opinion");
    // Names never grow old by themselves, and with a queue the bucket is listed every half hour.
    let options = ["--metadata-ttl", "indefinite", "--auto-import", "new,changed,deleted", "--event-queue-url", &url];
    let mount = Mount::new(&moto, &options);
    let root = mount.path("mnt");
    let names = |dir: &str| {
        let entries = std::fs::read_dir(root.join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((names(""), names("d")), (["d".to_owned()].into(), ["changes".to_owned(), "goes".to_owned()].into()));
    let status = || {
        let out = Mount::forebay(&["status", "--json", root.to_str().unwrap()]);
        let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        all[0]["auto_import"][0].clone()
    };
    eventually("the queue is connected, and no pass is near", || {
        let import = status();
        import["queue"]["connected"] == true && import["under_way"] == false && import["interval_ms"].as_u64().unwrap() > 600_000
    });
    // Here already: a read that met the new version would find it out before the event does.
    assert_eq!(std::fs::read(root.join("d/changes")).unwrap(), b"old");
    let passes = status()["passes"].clone();
    moto.put("second-opinion/data/d/changes", b"newer", "");
    moto.put("second-opinion/data/d/a%20name%20%2B%20more", b"new", "");
    moto.put("second-opinion/elsewhere", b"outside", "");
    moto.ask("DELETE", "second-opinion/data/d/goes", b"", SIGNED);
    eventually("it comes in", || names("d") == ["a name + more".to_owned(), "changes".to_owned()].into());
    eventually("the new version is read", || std::fs::read(root.join("d/changes")).is_ok_and(|bytes| bytes == b"newer"));
    assert_eq!(std::fs::read(root.join("d/a name + more")).unwrap(), b"new");
    let import = status();
    let counts = ["new", "changed", "deleted"].map(|kind| import[kind].as_u64().unwrap());
    assert_eq!((counts, &import["passes"]), ([1, 1, 1], &passes), "by events, not by listing: {import}");
    assert_eq!(import["queue"]["unreadable"], 0, "the test event is none to worry about: {import}");
    eventually("messages are deleted", || {
        let asked = moto.ask(
            "POST",
            "",
            format!("Action=GetQueueAttributes&AttributeName.1=All&Version=2012-11-05&QueueUrl={url}").as_bytes(),
            &format!("{}Content-Type: application/x-www-form-urlencoded\r\n", SIGNED.replace("/s3/", "/sqs/")),
        );
        let count = |name: &str| {
            asked.split(&format!("<Name>{name}</Name>")).nth(1).is_some_and(|rest| rest.trim_start().starts_with("<Value>0<"))
        };
        count("ApproximateNumberOfMessages") && count("ApproximateNumberOfMessagesNotVisible")
    });
}

#[test]
fn writes_on_somebody_elses_server() {
    let Some(moto) = Moto::start() else {
        println!("FOREBAY_MOTO_SERVER is not set: nothing was asked");
        return;
    };
    moto.put("second-opinion", b"", "");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(write_round_trip(&format!("http://{}", moto.address)));
}

async fn write_round_trip(endpoint: &str) {
    use forebay_daemon::repository::write::*;
    use forebay_daemon::repository::*;
    let settings = forebay_daemon::config::RepositorySettings {
        url: "s3://second-opinion".into(),
        endpoint_url: Some(endpoint.into()),
        region: Some("us-east-1".into()),
        profile: None,
        force_path_style: true,
        no_sign_request: false,
        requester_pays: false,
        sse: Some("AES256".into()),
        sse_kms_key_id: None,
        deadline: Duration::from_secs(20),
    };
    let keys = [("AWS_ACCESS_KEY_ID", "moto"), ("AWS_SECRET_ACCESS_KEY", "moto")];
    let environment = Environment::from_pairs(keys.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (store, _) = open_with(&settings, &environment).unwrap();
    let repository = Repository::new(store, RepositoryConfig::default(), forebay_daemon::clock::SystemClock::shared());
    let (token, urgency) = (WriteToken::random(), Urgency::Ahead);
    let key = "dir/a name + ü%";
    let put = |body: &'static str, precondition| PutRequest {
        key: key.into(),
        body: body.into(),
        precondition,
        ..PutRequest::default()
    };

    let pin = repository.put(put("one", Precondition::Absent), token, urgency).await.unwrap();
    let head = repository.head(key, urgency).await.unwrap();
    assert_eq!((head.size, head.pin.etag == pin.etag), (3, true));
    assert_eq!(repository.was_written(key, token, urgency).await.unwrap().map(|pin| pin.etag), Some(pin.etag.clone()));
    let other = WriteToken::random();
    let refused = repository.put(put("two", Precondition::Absent), other, urgency).await;
    assert!(matches!(refused, Err(StoreError::Changed { .. })), "{refused:?}");
    let stale = Pin { etag: "\"stale\"".into(), version: None };
    let refused = repository.put(put("two", Precondition::Is(stale.clone())), other, urgency).await;
    assert!(matches!(refused, Err(StoreError::Changed { .. })), "{refused:?}");

    let headers = ObjectHeaders { user_metadata: [("file-owner".to_owned(), "7".to_owned())].into(), ..ObjectHeaders::default() };
    let source = CopySource { key: key.into(), pin: pin.clone() };
    let precondition = Precondition::Is(pin);
    let copy = CopyRequest { source, key: key.into(), headers: Some(headers.clone()), precondition };
    let pin = repository.copy(copy, token, urgency).await.unwrap();
    assert_eq!(repository.head(key, urgency).await.unwrap().user_metadata["file-owner"], "7");

    let upload = repository.begin_multipart(BeginRequest { key: "large".into(), headers }, token, urgency).await.unwrap().upload;
    let pending = repository.list_multipart(UploadsRequest::default(), urgency).await.unwrap();
    assert_eq!(pending.uploads.iter().map(|pending| &pending.upload).collect::<Vec<_>>(), [&upload]);
    let body = vec![7; limits::LEAST_PART as usize].into();
    let first = repository.put_part(PartRequest { upload: upload.clone(), number: 1, body }, urgency).await.unwrap();
    let source = CopySource { key: key.into(), pin: pin.clone() };
    let last = CopyPartRequest { upload: upload.clone(), number: 2, source, range: 0..3 };
    let parts = vec![first, repository.copy_part(last, urgency).await.unwrap()];
    let complete = CompleteRequest { upload, parts, precondition: Precondition::Absent };
    repository.complete_multipart(complete, token, urgency).await.unwrap();
    let head = repository.head("large", urgency).await.unwrap();
    assert_eq!((head.size, head.user_metadata["file-owner"].as_str()), (limits::LEAST_PART + 3, "7"));

    let delete = |pin| DeleteRequest { key: key.into(), pin: Some(pin) };
    assert!(matches!(repository.delete(delete(stale), urgency).await, Err(StoreError::Changed { .. })));
    repository.delete(delete(pin.clone()), urgency).await.unwrap();
    repository.delete(delete(pin), urgency).await.unwrap();
    assert!(matches!(repository.head(key, urgency).await, Err(StoreError::NotFound { .. })));
}
