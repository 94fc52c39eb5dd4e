//! The running server: a listener on 127.0.0.1 and a task for each connection.

use crate::api::Backend;
use crate::auth::{Gate, Keys, OneKey};
use crate::config::{Credentials, LoopbackConfig};
use crate::faults::Faults;
use crate::front::Front;
use crate::line::Line;
use crate::observe::Observer;
use crate::store::{BucketHandle, Refusal, Store};
use crate::stream::Buffers;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

/// Starts servers.
pub struct LoopbackS3;

impl LoopbackS3 {
    /// Starts a server on the calling runtime.
    pub async fn start(config: LoopbackConfig) -> io::Result<Server> {
        serve(config, &Handle::current())
    }

    /// Starts a server on a runtime of its own with `threads` threads. May be called from anywhere but an async task.
    pub fn start_blocking(config: LoopbackConfig, threads: usize) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("loopback-s3")
            .enable_all()
            .build()?;
        let mut server = serve(config, runtime.handle())?;
        server.runtime = Some(runtime);
        Ok(server)
    }
}

/// A running server. Dropping it stops it and cuts its connections.
pub struct Server {
    address: SocketAddr,
    keys: Arc<Keys>,
    store: Arc<Store>,
    observer: Arc<Observer>,
    faults: Arc<Faults>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

fn serve(config: LoopbackConfig, runtime: &Handle) -> io::Result<Server> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let store = Arc::new(Store::new(&config)?);
    for bucket in &config.buckets {
        // Named twice is no error: the bucket is there.
        let _ = store.create_bucket(bucket);
    }
    let observer = Arc::new(Observer::new(config.request_log_len));
    let faults = Arc::new(Faults::default());
    let keys = Arc::new(Keys::new(config.credentials.clone()));
    let s3 = s3_service(&config, store.clone(), keys.clone());
    let front = Arc::new(Front { s3, observer: observer.clone(), faults: faults.clone() });
    let (stop, stopped) = watch::channel(false);
    let _entered = runtime.enter();
    runtime.spawn(accept(TcpListener::from_std(listener)?, front, stopped));
    Ok(Server { address, keys, store, observer, faults, stop, runtime: None })
}

fn s3_service(config: &LoopbackConfig, store: Arc<Store>, keys: Arc<Keys>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Backend { store, buffers: Arc::new(Buffers::default()) });
    builder.set_auth(OneKey(keys));
    builder.set_access(Gate { allow_anonymous: config.allow_anonymous });
    builder.build()
}

async fn accept(listener: TcpListener, front: Arc<Front>, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, front.clone(), stopped.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: those in use must come back first.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, front: Arc<Front>, mut stopped: watch::Receiver<bool>) {
    // With Nagle's algorithm a small reply waits for the client's delayed acknowledgement of its head: 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the client has gone");
        return;
    }
    let line = Arc::new(Line::default());
    let service = service_fn(|request| front.answer(request, line.clone()));
    let mut serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        served = &mut serving => if let Err(error) = served {
            tracing::debug!(%error, "connection ended");
        },
    }
    if line.wants_reset() {
        close_by_reset(serving.into_parts().io.into_inner());
    }
}

/// Drops the connection so that the client sees a reset: what a zero linger time does.
fn close_by_reset(stream: TcpStream) {
    if let Err(error) = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)) {
        tracing::debug!(%error, "the client has gone");
    }
}

impl Server {
    /// Where it listens, such as `http://127.0.0.1:40000`; requests are path-style.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What signed requests must be signed with.
    pub fn credentials(&self) -> Credentials {
        self.keys.now()
    }

    /// From now on requests must be signed with these; those signed with the ones before are told that they have expired.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.keys.replace(credentials);
    }

    /// How many requests were told that their credentials have expired.
    pub fn expired_requests(&self) -> u64 {
        self.keys.refused()
    }

    /// The requests it has seen.
    pub fn requests(&self) -> &Observer {
        &self.observer
    }

    /// The faults it injects.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) -> Result<BucketHandle, Refusal> {
        Ok(BucketHandle::new(self.store.create_bucket(name)?, self.store.etags))
    }

    /// A bucket, which is made if it is not there.
    pub fn bucket(&self, name: &str) -> BucketHandle {
        loop {
            match self.store.bucket(name).or_else(|_| self.store.create_bucket(name)) {
                Ok(bucket) => return BucketHandle::new(bucket, self.store.etags),
                // Somebody else made it between the two calls; look again.
                Err(_) => continue,
            }
        }
    }

    /// Stops it: no new connections, those that are open are cut.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            // Not awaited: a drop may happen inside another runtime, where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
