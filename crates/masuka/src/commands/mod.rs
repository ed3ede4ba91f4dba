//! What can be done, one file a command.

mod generate; // a prompt becomes pictures
mod train; // pictures become an adapter
mod serve; // the studio
pub mod worker; // who does its jobs
mod models; // base models, installed and listed
mod inspect; // what a file says about itself
mod doctor; // what this machine and this build can do

use crate::cli::Command;
use crate::environment::{Environment, FromFiles};

/// Runs `command`; `files` gave some of the environment's variables.
pub fn run(command: &Command, files: &FromFiles) -> anyhow::Result<()> {
    let environment = Environment::from_env();
    match command {
        Command::Generate(args) => generate::run(args, &environment),
        Command::Train(args) => train::run(args, &environment),
        Command::Serve(args) => serve::run(args, &environment),
        Command::Worker(args) => worker::run(args, &environment),
        Command::Models(args) => models::run(args, &environment),
        Command::Inspect(args) => inspect::run(args),
        Command::Doctor(args) => doctor::run(args, &environment, files),
        Command::Openapi => print_json(&masuka_server::open_api()),
    }
}

/// Prints `value` as the one JSON object on stdout.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
