//! `masuka serve`: the HTTP interface, and the worker that belongs to it.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use masuka_server::Server;
use masuka_storage::bus::Bus;
use masuka_storage::processes::NewProcess;
use masuka_storage::{Storage, base_models};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use uuid::Uuid;

use crate::cli::ServeArgs;
use crate::environment::Environment;
use crate::exit::CANCELLED;
use crate::service::desk::Desk;
use crate::service::supervisor::{Supervisor, closes};
use crate::service::{logging, registry, settings};

/// Serves until Ctrl-C or SIGTERM.
pub fn run(args: &ServeArgs, environment: &Environment) -> anyhow::Result<()> {
    let environment = environment.with_data_dir(args.data_dir.as_deref());
    logging::start(&environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args, &environment))
}

async fn serve(args: &ServeArgs, environment: &Environment) -> anyhow::Result<()> {
    let (host, port) = settings::address(args, environment)?;
    let listener = TcpListener::bind((host.as_str(), port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}; choose another with --port"))?;
    let config = settings::storage(environment)?;
    let storage = Storage::open(&config).await?;
    let base_model = registry::enter(&storage, environment).await?;
    let preloaded = base_models::default_id(storage.database(), &base_model).await?;
    let id = Uuid::new_v4().to_string();
    let bus = Bus::join(&config, &storage.studio(), &id);
    let state = json!({ "version": env!("CARGO_PKG_VERSION") });
    let new = NewProcess { id: id.clone(), role: "server", supervisor_id: None, state };
    let _lock = storage.processes().enter(&new).await?;

    let closing = closing_on_signals()?;
    let supervisor = Supervisor {
        server_id: id.clone(),
        arguments: worker_arguments(args, environment, &preloaded),
        storage: storage.clone(),
        bus: bus.clone(),
    };
    let worker = (!args.no_worker).then(|| tokio::spawn(supervisor.run(closing.clone())));
    let options = settings::server(&id, &host, base_model, args, environment)?;
    let desk = Arc::new(Desk::new(environment));
    let server = Server::new(options, storage.clone(), bus, desk);
    announce(&listener)?;
    let mut until = closing;
    server.serve(listener, async move { closes(&mut until).await }).await;
    if let Some(worker) = worker {
        worker.await?;
    }
    storage.processes().leave(&id).await?;
    tracing::info!("the server has ended");
    Ok(storage.database().clone().close().await?)
}

/// The one line on stdout, for people and for programs that start a server.
fn announce(listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "MASUKA is ready at http://{address} (API at http://{address}/docs/)")?;
    Ok(out.flush()?)
}

/// Turns true at the first signal; the second ends the process.
fn closing_on_signals() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(CANCELLED.into());
            }
            tracing::info!("ending: running requests are answered, a running job is put back");
        }
    });
    Ok(receiver)
}

/// The flags by which the worker becomes this server's.
fn worker_arguments(args: &ServeArgs, environment: &Environment, preloaded: &str) -> Vec<String> {
    let data_dir = environment.data_dir().display().to_string();
    let mut arguments = vec!["--data-dir".to_owned(), data_dir];
    let compute = &args.compute;
    let flags = [
        ("--device", compute.device.map(|device| device.to_string())),
        ("--dtype", compute.dtype.map(|dtype| dtype.to_string())),
        ("--offload", Some(compute.offload.to_string())),
        ("--preload", args.preload.then(|| preloaded.to_owned())),
        ("--unload-after", args.unload_after.map(|seconds| seconds.to_string())),
        ("--threads", compute.threads.map(|count| count.to_string())),
    ];
    for (flag, value) in flags {
        arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    arguments
}
