//! `masuka doctor`: what this machine and this build can do, what is in force, and what is wrong.

mod storage; // files and rows, compared

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::Offload;
use masuka_storage::bus::nats_version;
use serde_json::{Map, Value, json};

use super::print_json;
use crate::cli::DoctorArgs;
use crate::environment::{self, Environment, FromFiles, Setting};
use crate::machine::{Memory, Processor};
use crate::models::ModelFiles;
use crate::{engine, starter};

/// Everything that was found.
struct Findings {
    processor: Processor,
    memory: Option<Memory>,
    devices: Vec<(DeviceKind, Result<(), String>)>,
    device_in_use: DeviceKind,
    data_dir: PathBuf,
    model: String,
    /// What a picture of that model takes in each memory mode, in bytes; unknown before it is unpacked.
    memory_modes: Vec<(Offload, u64)>,
    hf_token_is_set: bool,
    /// The version of the server of `NATS_URL`, if one is named and answers.
    nats: Option<String>,
    cpu_level: Option<String>,
    /// The variables in force.
    settings: Vec<Setting>,
    /// Variables in `.env` that the original used and nothing reads.
    unused: Vec<String>,
    problems: Vec<String>,
}

/// Prints the findings; fails when something is wrong.
pub fn run(args: &DoctorArgs, environment: &Environment, files: &FromFiles) -> anyhow::Result<()> {
    let environment = environment.with_data_dir(args.data_dir.as_deref());
    if args.storage {
        return storage::run(args, &environment);
    }
    let findings = Findings::gather(&environment, files);
    if args.json {
        print_json(&findings.to_json())?;
    } else {
        findings.print();
    }
    match findings.problems.len() {
        0 => Ok(()),
        1 => bail!("1 problem found"),
        count => bail!("{count} problems found"),
    }
}

impl Findings {
    fn gather(environment: &Environment, files: &FromFiles) -> Self {
        let mut problems = Vec::new();
        let usable = |kind: DeviceKind| kind.open().map(drop).map_err(|e| e.to_string());
        let devices: Vec<_> = DeviceKind::ALL.map(|kind| (kind, usable(kind))).into();
        let broken = devices.iter().filter(|(kind, _)| kind.compiled_in());
        problems.extend(broken.filter_map(|(_, usable)| usable.clone().err()));
        let data_dir = environment.data_dir();
        problems.extend(check_data_dir(&data_dir).err());
        problems.extend(engine::use_level(environment).err().map(|error| format!("{error:#}")));
        let device_in_use = device_in_use(environment, &mut problems);
        let model = model_in_use(environment, &mut problems);
        let nats = nats_in_use(environment, &mut problems);
        Self {
            processor: Processor::detect(),
            memory: Memory::detect(),
            memory_modes: memory_modes(environment, device_in_use, &mut problems),
            device_in_use,
            devices,
            model,
            data_dir,
            nats,
            hf_token_is_set: environment.hf_token_is_set,
            cpu_level: environment.cpu_level.clone(),
            settings: environment::settings(files),
            unused: files.retired.clone(),
            problems,
        }
    }

    fn to_json(&self) -> Value {
        let device = |(kind, usable): &(DeviceKind, Result<(), String>)| {
            json!({
                "name": kind.name(),
                "compiled_in": kind.compiled_in(),
                "usable": usable.is_ok(),
                "in_use": *kind == self.device_in_use,
                "message": usable.as_ref().err(),
                "free_bytes": kind.free_bytes(),
            })
        };
        let setting = |setting: &Setting| {
            let Setting { name, value, source } = setting;
            json!({ "name": name, "value": value, "source": source })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "processor": {
                "model": self.processor.model,
                "features": self.processor.features,
                "threads": self.processor.threads,
                "level": engine::level().name(),
                "level_limit": self.cpu_level,
            },
            "memory": self.memory.map(|memory| json!({
                "total_bytes": memory.total_bytes,
                "available_bytes": memory.available_bytes,
            })),
            "devices": self.devices.iter().map(device).collect::<Vec<_>>(),
            "data_dir": self.data_dir,
            "model": self.model,
            "memory_modes_bytes": self.memory_modes.iter().map(|(mode, bytes)| {
                (mode.name().to_owned(), json!(bytes))
            }).collect::<Map<_, _>>(),
            "nats_version": self.nats,
            "hf_token_is_set": self.hf_token_is_set,
            "settings": self.settings.iter().map(setting).collect::<Vec<_>>(),
            "unused_settings": self.unused,
            "problems": self.problems,
        })
    }

    fn print(&self) {
        let Processor { model, features, threads } = &self.processor;
        println!("masuka      {}", env!("CARGO_PKG_VERSION"));
        println!("processor   {model}, {threads} threads");
        println!("features    {}", features.join(" "));
        let limit = self.cpu_level.as_ref();
        let limit = limit.map(|level| format!(", limited to {level} by MASUKA_CPU_LEVEL"));
        println!("kernels     {}{}", engine::level(), limit.unwrap_or_default());
        match self.memory {
            Some(Memory { total_bytes, available_bytes }) => {
                println!("memory      {}, {} available", gib(total_bytes), gib(available_bytes));
            }
            None => println!("memory      unknown on this system"),
        }
        for (kind, usable) in &self.devices {
            let state = match usable {
                Ok(()) if *kind == self.device_in_use => "usable, in use",
                Ok(()) => "usable",
                Err(_) if !kind.compiled_in() => "not part of this build",
                Err(_) => "not usable",
            };
            let free =
                kind.free_bytes().map(|bytes| format!(", {} of its memory free", gib(bytes)));
            println!("device      {kind}: {state}{}", free.unwrap_or_default());
        }
        println!("data folder {}", self.data_dir.display());
        println!("model       {}", self.model);
        for (mode, bytes) in &self.memory_modes {
            println!("            a picture takes about {} with --offload {mode}", gib(*bytes));
        }
        println!("HF_TOKEN    {}", if self.hf_token_is_set { "set" } else { "not set" });
        if let Some(version) = &self.nats {
            println!("NATS        answers, version {version}");
        }
        for Setting { name, value, source } in &self.settings {
            println!(
                "setting     {name}={}, from {source}",
                value.as_deref().unwrap_or("(secret)")
            );
        }
        for name in &self.unused {
            println!("unused      {name} in .env: nothing reads it");
        }
        for problem in &self.problems {
            println!("problem     {problem}");
        }
    }
}

fn device_in_use(environment: &Environment, problems: &mut Vec<String>) -> DeviceKind {
    let Some(name) = &environment.device else { return DeviceKind::best() };
    let opened = name.parse::<DeviceKind>().and_then(|kind| kind.open().map(|_| kind));
    opened.unwrap_or_else(|error| {
        problems.push(format!("MASUKA_DEVICE: {error}"));
        DeviceKind::best()
    })
}

fn model_in_use(environment: &Environment, problems: &mut Vec<String>) -> String {
    let starter_folder = starter::folder(environment);
    match environment.base_model.as_deref() {
        Some(model) if model != starter::NAME || Path::new(model).exists() => {
            if !Path::new(model).exists() {
                problems.push(format!(
                    "`{model}` of MASUKA_BASE_MODEL does not exist; name a folder in the layout of \
                     diffusers, a checkpoint file or `starter`"
                ));
            }
            format!("{model}, from MASUKA_BASE_MODEL")
        }
        _ if starter::is_unpacked(environment) => {
            format!("starter, in {}", starter_folder.display())
        }
        _ => format!(
            "starter, part of this binary, to be unpacked into {}",
            starter_folder.display()
        ),
    }
}

/// Whether the server of `NATS_URL` answers, if one is named.
fn nats_in_use(environment: &Environment, problems: &mut Vec<String>) -> Option<String> {
    let url = environment.nats_url.as_ref()?.expose();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let version = runtime.map_err(anyhow::Error::from);
    let version = version.and_then(|runtime| Ok(runtime.block_on(nats_version(url))?));
    version.map_err(|error| problems.push(format!("{error:#}"))).ok()
}

/// Of the model in use, if it lies on disk.
fn memory_modes(
    environment: &Environment,
    device: DeviceKind,
    problems: &mut Vec<String>,
) -> Vec<(Offload, u64)> {
    let named = environment.base_model.as_ref().map(PathBuf::from);
    let unpacked = || starter::is_unpacked(environment).then(|| starter::folder(environment));
    let Some(model) = named.filter(|path| path.exists()).or_else(unpacked) else {
        return Vec::new();
    };
    let files = ModelFiles { model, ..ModelFiles::default() };
    engine::memory_by_mode(&files, device).unwrap_or_else(|error| {
        problems.push(format!("the model cannot be used: {error:#}"));
        Vec::new()
    })
}

/// Whether files can be made where they are to be kept, or where that folder would be made.
fn check_data_dir(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let probe = there.join(format!(".masuka-probe-{}", std::process::id()));
    let written = fs::write(&probe, []).and_then(|()| fs::remove_file(&probe));
    written.map_err(|error| {
        let folder = folder.display();
        format!(
            "cannot write into the data folder `{folder}` ({error}); set MASUKA_DATA_DIR to another"
        )
    })
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}
