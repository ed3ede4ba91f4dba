//! The words of `masuka models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `masuka models`
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,

    /// Where everything is kept [default: MASUKA_DATA_DIR or the user's data folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

/// What can be done with base models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Install a model of the hub, a folder or a file; what was cut short goes on
    Install(InstallArgs),
    /// List what is installed
    List(ListArgs),
    /// Choose the base model of requests that name none
    Default(DefaultArgs),
    /// Take a model off the list; its files are kept unless `--files` is given
    Remove(RemoveArgs),
}

/// `masuka models install`
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// `OWNER/NAME[@REVISION][:FILE]` of the hub, a folder in the layout of diffusers, or a checkpoint file
    pub source: String,

    /// The id by which requests ask for it [default: its name]
    #[arg(long)]
    pub id: Option<String>,

    /// An installed base model that gives the parts which a file of only the transformer lacks
    #[arg(long, value_name = "ID")]
    pub base: Option<String>,
}

/// `masuka models default`
#[derive(Debug, Args)]
pub struct DefaultArgs {
    /// Its id
    pub id: String,
}

/// `masuka models list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// `masuka models remove`
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Its id
    pub id: String,

    /// Erase its files, if they were downloaded from the hub
    #[arg(long)]
    pub files: bool,
}
