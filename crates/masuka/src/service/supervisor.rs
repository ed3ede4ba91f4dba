//! The worker that belongs to a server: a process of the same binary, so that a crash of the engine never takes the
//! server down. It holds the other end of the worker's standard input: when the server is gone, however that came,
//! the worker reads the end of it and goes too.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use masuka_storage::Storage;
use masuka_storage::bus::{Bus, Signal};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use uuid::Uuid;

use crate::commands::worker::STOP_WORD;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that lived for so long did not die of its start.
const LIVED_WELL: Duration = Duration::from_secs(60);
/// A running job stops within a block; what takes longer than this hangs.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Starts workers, one after another.
pub struct Supervisor {
    /// The server's id.
    pub server_id: String,
    /// The worker's flags besides its ids.
    pub arguments: Vec<String>,
    /// Knows the jobs of a worker that died.
    pub storage: Storage,
    /// Wakes other workers.
    pub bus: Bus,
}

impl Supervisor {
    /// Keeps a worker running until `closing` turns true; then lets it put its job back.
    pub async fn run(self, mut closing: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        while !*closing.borrow() {
            let started = Instant::now();
            match self.run_once(&mut closing).await {
                Ok(None) => return,
                Ok(Some(status)) => tracing::error!("the worker died: {status}"),
                Err(error) => tracing::error!("no worker: {error:#}"),
            }
            pause = if started.elapsed() >= LIVED_WELL { FIRST_PAUSE } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = closes(&mut closing) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One worker's life; how it died, or nothing if it was asked to end.
    async fn run_once(
        &self,
        closing: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<Option<ExitStatus>> {
        let id = Uuid::new_v4().to_string();
        let mut child = self.start(&id)?;
        // Waiting for a child would close it.
        let input = child.stdin.take().context("the worker's standard input")?;
        let died = tokio::select! {
            status = child.wait() => Some(status?),
            () = closes(closing) => None,
        };
        if died.is_none() {
            stop(&mut child, input).await?;
        }
        let reaped = self.storage.queue().worker_died(&id, died.is_some()).await?;
        for job in &reaped {
            tracing::warn!(job = job.job_id, status = %job.status, "its worker died");
        }
        self.storage.processes().leave(&id).await?;
        if !reaped.is_empty() {
            self.bus.publish(&Signal::Events);
            self.bus.publish(&Signal::JobQueued);
        }
        Ok(died)
    }

    fn start(&self, id: &str) -> anyhow::Result<Child> {
        let program: PathBuf = std::env::current_exe().context("this program's file")?;
        let mut command = Command::new(program);
        command.arg("worker").args(["--supervisor", &self.server_id, "--id", id]);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().context("cannot start the worker")
    }
}

/// Returns once the server is about to end.
pub async fn closes(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closes| *closes).await);
}

/// Asks for the end, and enforces it if nothing happens.
async fn stop(child: &mut Child, mut input: ChildStdin) -> anyhow::Result<()> {
    drop(input.write_all(STOP_WORD.as_bytes()).await);
    drop(input.flush().await);
    let ended = tokio::time::timeout(STOP_WITHIN, child.wait()).await;
    if ended.is_ok() {
        return Ok(());
    }
    tracing::warn!("the worker does not end; it is killed");
    child.kill().await.context("cannot kill the worker")
}
