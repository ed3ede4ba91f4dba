//! Signals between the processes of one data folder: at once, and sometimes lost. What must not be lost stands in the
//! database, which everybody asks each second besides.
//!
//! Each process listens on a datagram socket of its own in `bus/`; whoever has something to tell sends it to all of
//! them. Where sockets cannot be made, signals stay within the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How many signals a slow listener may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "snake_case")]
pub enum Signal {
    /// A job waits.
    JobQueued,
    /// A running job shall stop.
    CancelRequested {
        /// The job.
        job_id: String,
    },
    /// There are new rows in `job_events`.
    Events,
    /// Something that is no job is not as it was.
    Changed {
        /// Its kind, such as `queue`, `models` or `install`.
        what: String,
        /// How it is, where that is told along.
        #[serde(default)]
        details: serde_json::Value,
    },
    /// A step is done.
    Step {
        /// The job.
        job_id: String,
        /// Which claim of it.
        epoch: i64,
        /// How far it is, as in the job's row.
        progress: serde_json::Value,
    },
}

/// This process's end of it.
#[derive(Debug, Clone)]
pub struct Bus {
    here: broadcast::Sender<Signal>,
    elsewhere: Option<Arc<Sockets>>,
}

#[derive(Debug)]
struct Sockets {
    socket: std::os::unix::net::UnixDatagram,
    folder: PathBuf,
    own: PathBuf,
    closed: Arc<AtomicBool>,
}

impl Bus {
    /// Joins the bus of `data_dir` under the name `id`.
    pub fn join(data_dir: &Path, id: &str) -> Self {
        let (here, _) = broadcast::channel(BACKLOG);
        let elsewhere = Sockets::open(data_dir, id, here.clone());
        if let Err(error) = &elsewhere {
            tracing::warn!(
                "no socket for signals ({error}); other processes are asked each second instead"
            );
        }
        Self { here, elsewhere: elsewhere.ok().map(Arc::new) }
    }

    /// Tells everybody, this process included.
    pub fn publish(&self, signal: &Signal) {
        drop(self.here.send(signal.clone()));
        if let (Some(sockets), Ok(bytes)) = (&self.elsewhere, serde_json::to_vec(signal)) {
            sockets.send(&bytes);
        }
    }

    /// Listens from here on.
    pub fn subscribe(&self) -> broadcast::Receiver<Signal> {
        self.here.subscribe()
    }
}

impl Sockets {
    fn open(data_dir: &Path, id: &str, here: broadcast::Sender<Signal>) -> std::io::Result<Self> {
        use std::os::unix::net::UnixDatagram;
        let folder = data_dir.join("bus");
        std::fs::create_dir_all(&folder)?;
        let own = folder.join(id);
        let receiver = UnixDatagram::bind(&own)?;
        receiver.set_read_timeout(Some(std::time::Duration::from_millis(500)))?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let closed = Arc::new(AtomicBool::new(false));
        let until = closed.clone();
        std::thread::Builder::new()
            .name("bus".into())
            .spawn(move || listen(&receiver, &here, &until))?;
        Ok(Self { socket, folder, own, closed })
    }

    /// To every other process; one whose queue is full misses it, one that is dead is forgotten.
    fn send(&self, bytes: &[u8]) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            if path == self.own {
                continue;
            }
            match self.socket.send_to(bytes, &path) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    drop(std::fs::remove_file(&path));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(std::fs::remove_file(&self.own));
    }
}

fn listen(
    receiver: &std::os::unix::net::UnixDatagram,
    here: &broadcast::Sender<Signal>,
    until: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 16];
    while !until.load(Ordering::Relaxed) {
        let Ok(count) = receiver.recv(&mut buffer) else { continue };
        if let Ok(signal) = serde_json::from_slice(&buffer[..count]) {
            drop(here.send(signal));
        }
    }
}
