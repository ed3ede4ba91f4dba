//! `masuka models`: base models are installed from a hub or from this machine, listed, and taken off the list.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use masuka_server::desk::BaseModelFiles;
use masuka_storage::downloads::{HubModel, Installing, Reach};
use masuka_storage::{Storage, base_models};
use serde_json::json;

use super::print_json;
use crate::cli::{DefaultArgs, InstallArgs, ListArgs, ModelsArgs, ModelsCommand, RemoveArgs};
use crate::environment::Environment;
use crate::exit::Usage;
use crate::interrupt::Interrupt;
use crate::service::{registry, settings};
use crate::starter;

/// How soon Ctrl-C is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const BAR: &str = "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left\n{msg}";

/// Does what `args` ask.
pub fn run(args: &ModelsArgs, environment: &Environment) -> anyhow::Result<()> {
    let environment = environment.with_data_dir(args.data_dir.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = Storage::open(&settings::storage(&environment)?).await?;
        let outcome = match &args.command {
            ModelsCommand::Install(args) => install(args, &storage, &environment).await,
            ModelsCommand::List(args) => list(args, &storage).await,
            ModelsCommand::Default(args) => choose_default(args, &storage).await,
            ModelsCommand::Remove(args) => remove(args, &storage, &environment).await,
        };
        outcome.map_err(say_where_the_names_are)?;
        Ok(storage.database().clone().close().await?)
    })
}

/// Of a model that is not there.
fn say_where_the_names_are(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(masuka_storage::Error::NotFound { .. }) => {
            anyhow!("{error}; `masuka models list` names those that do")
        }
        _ => error,
    }
}

async fn install(
    args: &InstallArgs,
    storage: &Storage,
    environment: &Environment,
) -> anyhow::Result<()> {
    let source = args.source.as_str();
    let (path, name, short) = match HubModel::parse(source) {
        _ if Path::new(source).exists() => (source.into(), None, None),
        Some(model) => {
            let (name, short) = (model.name().to_owned(), model.short_name().to_owned());
            (fetch(&model, environment).await?, Some(name), Some(short))
        }
        None => bail!(Usage(format!(
            "`{source}` is neither a file or folder here nor a model of the hub such as black-forest-labs/FLUX.1-dev"
        ))),
    };
    let parts = match &args.base {
        Some(id) => {
            let base = base_models::find(storage.database(), id).await?;
            Some(base.parts_source.unwrap_or(base.source))
        }
        None => None,
    };
    let id = args.id.clone().or(short);
    let files = BaseModelFiles { path, name, parts };
    let new = registry::examine(environment, &files, id.as_deref())?;
    base_models::enter(storage.database(), &new).await?;
    let id = &new.id;
    println!(
        "{id} is installed; ask for it by \"base_model\": \"{id}\", or make it the default of the service:"
    );
    println!("masuka models default {id}");
    if files.parts.is_none() {
        println!("The default of every command, `masuka generate` among them, is set by");
        println!("MASUKA_BASE_MODEL={}", files.path.display());
    }
    Ok(())
}

/// Downloads what is missing, with a bar on a terminal.
async fn fetch(model: &HubModel, environment: &Environment) -> anyhow::Result<std::path::PathBuf> {
    let hub = settings::hub(environment, Reach::anywhere())?;
    let interrupt = Interrupt::listen()?;
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(BAR)?);
    let mut show = |progress: &Installing| {
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
        if bar.message() != progress.file {
            bar.set_message(progress.file.clone());
        }
        !interrupt.is_asked()
    };
    let fetched = tokio::select! {
        fetched = hub.install(model, &mut show) => fetched,
        // A hub that sends nothing is not waited for.
        () = asked(&interrupt) => Err(masuka_storage::Error::Stopped),
    };
    bar.finish_and_clear();
    match fetched {
        Err(masuka_storage::Error::Stopped) => Err(masuka_diffusion::Error::Cancelled)
            .context("what has arrived is kept; the same command goes on from there"),
        fetched => Ok(fetched?),
    }
}

async fn asked(interrupt: &Interrupt) {
    while !interrupt.is_asked() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn list(args: &ListArgs, storage: &Storage) -> anyhow::Result<()> {
    let models = base_models::list(storage.database()).await?;
    if args.json {
        let model = |m: &masuka_storage::entities::base_model::Model| json!({ "id": m.id, "name": m.name, "family": m.family, "source": m.source });
        return print_json(&models.iter().map(model).collect::<Vec<_>>());
    }
    for model in models {
        println!("{}  {}  {}", model.id, model.family, model.source);
    }
    Ok(())
}

async fn choose_default(args: &DefaultArgs, storage: &Storage) -> anyhow::Result<()> {
    base_models::set_default(storage.database(), &args.id).await?;
    println!("{} is the base model of requests that name none", args.id);
    Ok(())
}

async fn remove(
    args: &RemoveArgs,
    storage: &Storage,
    environment: &Environment,
) -> anyhow::Result<()> {
    if args.id == starter::NAME {
        bail!(Usage("the starter model is part of the binary and stays".into()));
    }
    if args.files {
        let hub = settings::hub(environment, Reach::anywhere())?;
        base_models::remove_with_files(storage.database(), &hub, &args.id).await?;
        println!("{} is off the list; its files are erased", args.id);
    } else {
        base_models::remove(storage.database(), &args.id).await?;
        println!("{} is off the list; its files are kept", args.id);
    }
    Ok(())
}
