//! Lines on stderr: colours on a terminal, none elsewhere.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::filter::LevelFilter;

use crate::environment::Environment;

/// Writes what is worth it from here on, by `MASUKA_LOG` or from `info` up.
pub fn start(environment: &Environment) -> anyhow::Result<()> {
    let level = match &environment.log {
        Some(name) => name.parse::<LevelFilter>().with_context(|| {
            format!("MASUKA_LOG `{name}` is not one of off, error, warn, info, debug, trace")
        })?,
        None => LevelFilter::INFO,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
