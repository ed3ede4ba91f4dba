//! `masuka worker`: does the jobs of a studio, as a child of its server or by itself.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use masuka_diffusion::devices::DeviceKind;
use masuka_jobs::{EngineOptions, Stop, Worker, WorkerOptions};
use masuka_kernels::memory;
use uuid::Uuid;

use crate::cli::WorkerArgs;
use crate::engine;
use crate::environment::Environment;
use crate::machine;
use crate::service::{logging, registry, settings};

/// What a server writes to its worker's standard input to let it end in order.
pub const STOP_WORD: &str = "stop\n";
/// The code of a worker whose server has gone.
const SERVER_GONE: i32 = 3;

/// Works until it is stopped.
pub fn run(args: &WorkerArgs, environment: &Environment) -> anyhow::Result<()> {
    let environment = environment.with_data_dir(args.data_dir.as_deref());
    logging::start(&environment)?;
    engine::use_level(&environment)?;
    if let Some(count) = args.compute.threads {
        engine::use_threads(count.into())?;
    }
    let stop = Stop::default();
    if args.supervisor.is_some() {
        obey_server(stop.clone())?;
    } else {
        obey_signals(stop.clone())?;
    }
    let compute = settings::compute(&args.compute, &environment)?;
    let config = settings::storage(&environment)?;
    let budget = settings::memory_budget(&environment)?;
    let engine = EngineOptions {
        device: compute.device,
        precision: compute.precision,
        offload: compute.offload,
        available_bytes: Arc::new(move || available_bytes(compute.device, budget)),
        give_back: memory::give_back_freed_pages,
        find_files: Arc::new(move |model| registry::files_of(model, &environment)),
    };
    let start = || {
        let options = WorkerOptions {
            id: args.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string()),
            supervisor_id: args.supervisor.clone(),
            queues: args.queues.clone(),
            preload: args.preload.clone(),
            unload_after: args.unload_after.map(Duration::from_secs),
            training_yields: args.training_yields,
            engine: engine.clone(),
        };
        Worker::start(options, &config, stop.clone())
    };
    let others: Vec<_> = (1..args.concurrency).map(|_| start()).collect::<anyhow::Result<_>>()?;
    run_together(start()?, others)
}

/// What models may still take: what the device has left and, of the machine's memory, within this process's budget.
fn available_bytes(device: DeviceKind, budget: Option<u64>) -> Option<u64> {
    let budget = budget.filter(|_| device == DeviceKind::Cpu);
    let left = budget.map(|budget| budget.saturating_sub(machine::own_bytes().unwrap_or(0)));
    left.into_iter().chain(machine::available_bytes(device)).min()
}

/// Runs each worker on a thread of its own; the process ends when all have ended.
fn run_together(first: Worker, others: Vec<Worker>) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let others: Vec<_> =
            others.into_iter().map(|worker| scope.spawn(move || worker.run())).collect();
        first.run()?;
        for other in others {
            other.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

/// The server says when to end; if it is gone, this process must not outlive it. Signals to the whole group, such as
/// Ctrl-C in a terminal, are the server's to answer.
fn obey_server(stop: Stop) -> anyhow::Result<()> {
    ctrlc::set_handler(|| {})?;
    let listen = move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        if read.is_ok() && line == STOP_WORD {
            stop.ask();
        } else {
            std::process::exit(SERVER_GONE);
        }
    };
    std::thread::Builder::new().name("server".into()).spawn(listen)?;
    Ok(())
}

fn obey_signals(stop: Stop) -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(move || stop.ask())?)
}
