//! The thread that has devices out of service probed, once a second.

use super::DeviceArray;
use crate::clock::SharedClock;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often due probes are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Calls [`DeviceArray::probe_tick`] until dropped.
pub struct Prober {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts the thread.
    pub fn start(array: Arc<DeviceArray>, clock: SharedClock) -> std::io::Result<Self> {
        array.probe_tick(clock.monotonic());
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                array.probe_tick(clock.monotonic());
            }
        };
        let thread = std::thread::Builder::new().name("fby-probe".into()).spawn(run)?;
        Ok(Prober { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take_if(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
