//! A bucket of a server in this process, and a server that answers as told.
#![allow(missing_docs, reason = "test code")]

use super::{Address, Credentials, Encryption, Limits, S3Config, S3Store};
use crate::clock::SystemClock;
use crate::repository::ObjectStore;
use crate::repository::conformance::Subject;
use forebay_loopback_s3::{BucketHandle, LoopbackConfig, LoopbackS3, Server, Versioning};
use object_store::aws::AwsCredential;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server, one of its buckets, and our client to it.
pub struct S3Subject {
    pub server: Server,
    pub bucket: BucketHandle,
    pub store: S3Store,
}

impl S3Subject {
    /// A server that checks signatures, on a port of its own.
    pub async fn start(versioned: bool) -> Self {
        let config = LoopbackConfig { allow_anonymous: false, buckets: vec!["lake".into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start(config).await.expect("a free port");
        let bucket = server.bucket("lake");
        if versioned {
            bucket.set_versioning(Versioning::Enabled);
        }
        let store = client(&server, "lake", |_| {});
        S3Subject { server, bucket, store }
    }
}

/// A client with settings of one's own.
pub fn client(server: &Server, bucket: &str, change: impl FnOnce(&mut S3Config)) -> S3Store {
    let keys = server.credentials();
    let credential = AwsCredential { key_id: keys.access_key.clone(), secret_key: keys.secret_key.clone(), token: None };
    let silence = Duration::from_millis(300);
    let mut config = S3Config {
        bucket: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        address: Address::new(Some(&server.endpoint_url()), "us-east-1", bucket, true).expect("a good endpoint"),
        credentials: Credentials::fixed(credential),
        requester_pays: false,
        encryption: Encryption::AsBucket,
        limits: Limits { silence, ..Limits::default() },
    };
    change(&mut config);
    S3Store::new(config, SystemClock::shared()).expect("no certificates needed")
}

impl Subject for S3Subject {
    fn store(&self) -> &dyn ObjectStore {
        &self.store
    }
    fn put(&self, key: &str, data: &[u8]) {
        self.bucket.put(key, data.to_vec(), BTreeMap::<&str, &str>::new());
    }
    fn delete(&self, key: &str) {
        self.bucket.delete(key);
    }
    fn holds_odd_keys(&self) -> bool {
        true
    }
}

/// A server that gives the answers it was told, word for word, whatever the requests. For an empty one it closes the connection.
pub struct Canned {
    pub endpoint: String,
    shared: Arc<Mutex<CannedState>>,
}

#[derive(Default)]
struct CannedState {
    answers: VecDeque<String>,
    requests: Vec<String>,
    bodies: Vec<String>,
    connections: usize,
}

impl Canned {
    pub async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let shared = Arc::new(Mutex::new(CannedState { answers, ..CannedState::default() }));
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.lock().connections += 1;
                tokio::spawn(Self::serve(stream, accepting.clone()));
            }
        });
        Canned { endpoint, shared }
    }

    async fn serve(mut stream: TcpStream, shared: Arc<Mutex<CannedState>>) {
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let request = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
            let length =
                request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            let answer = {
                let mut state = shared.lock();
                state.requests.push(request);
                state.bodies.push(String::from_utf8_lossy(&body).into_owned());
                state.answers.pop_front()
            };
            let Some(answer) = answer.filter(|answer| !answer.is_empty()) else { return };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }

    /// The bodies of the requests so far.
    pub fn bodies(&self) -> Vec<String> {
        self.shared.lock().bodies.clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// A client to it.
    pub fn client(&self, credentials: Credentials) -> S3Store {
        self.client_with(|config| config.credentials = credentials)
    }

    /// A client to it that signs nothing, with settings of one's own.
    pub fn client_with(&self, change: impl FnOnce(&mut S3Config)) -> S3Store {
        let mut config = S3Config {
            bucket: "lake".to_owned(),
            region: "us-east-1".to_owned(),
            address: Address::new(Some(&self.endpoint), "us-east-1", "lake", true).expect("a good endpoint"),
            credentials: Credentials::unsigned(),
            requester_pays: false,
            encryption: Encryption::AsBucket,
            limits: Limits::default(),
        };
        change(&mut config);
        S3Store::new(config, SystemClock::shared()).expect("no certificates needed")
    }
}
