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
    let training = error.downcast_ref::<masuka_training::Error>();
    let engine = match training {
        Some(masuka_training::Error::Engine(engine)) => Some(engine),
        _ => error.chain().find_map(|cause| cause.downcast_ref::<Error>()),
    };
    eprintln!("error: {}", message(&error));
    match engine {
        Some(Error::Cancelled) => CANCELLED.into(),
        Some(Error::Invalid { .. }) => USAGE.into(),
        _ if matches!(training, Some(masuka_training::Error::Invalid { .. })) => USAGE.into(),
        _ if error.is::<Usage>() => USAGE.into(),
        _ => FAILURE.into(),
    }
}

/// What went wrong, then why; causes that the former already told are left out.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !message.ends_with(&cause) {
            message = if message.is_empty() { cause } else { format!("{message}: {cause}") };
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let io = || std::io::Error::other("no such file");
        let engine = anyhow::Error::from(Error::io("a.png", io()));
        assert_eq!(message(&engine), "`a.png`: no such file");
        let nested = Err::<(), _>(io()).context("cannot read `a.png`").context("MASUKA_DEVICE");
        assert_eq!(
            message(&nested.unwrap_err()),
            "MASUKA_DEVICE: cannot read `a.png`: no such file"
        );
    }
}
