//! How a command ends: the message on stderr and the code for the shell.

use std::process::ExitCode;

use masuka_diffusion::Error;

/// What is asked contradicts itself or lacks something; ends like an unknown flag.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The code as shells know it: 0 done, 1 failed, 2 wrong usage, 130 cancelled by Ctrl-C.
pub const CANCELLED: u8 = 130;
const FAILURE: u8 = 1;
const USAGE: u8 = 2;

/// Prints what went wrong, if anything, and gives the code.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let engine = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    eprintln!("error: {error:#}");
    match engine {
        Some(Error::Cancelled) => CANCELLED.into(),
        Some(Error::Invalid { .. }) => USAGE.into(),
        _ if error.is::<Usage>() => USAGE.into(),
        _ => FAILURE.into(),
    }
}
