//! Between the processes of one data folder: each listens on a datagram socket of its own in `bus/`; whoever has something
//! to tell sends it to all of them.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::broadcast;

use super::Signal;

#[derive(Debug)]
pub(super) struct Sockets {
    socket: UnixDatagram,
    folder: PathBuf,
    own: PathBuf,
    closed: Arc<AtomicBool>,
}

/// Where the sockets are.
pub(super) fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join("bus")
}

impl Sockets {
    /// Listens under the name `id`.
    pub(super) fn open(
        data_dir: &Path,
        id: &str,
        here: broadcast::Sender<Signal>,
    ) -> std::io::Result<Self> {
        let folder = folder_of(data_dir);
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
    pub(super) fn send(&self, bytes: &[u8]) {
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

fn listen(receiver: &UnixDatagram, here: &broadcast::Sender<Signal>, until: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !until.load(Ordering::Relaxed) {
        let Ok(count) = receiver.recv(&mut buffer) else { continue };
        if let Ok(signal) = serde_json::from_slice(&buffer[..count]) {
            drop(here.send(signal));
        }
    }
}
