//! The binary: reads the command line and runs the command. What each command does lives in `commands/`.

mod cli; // the command line's words
mod environment; // the variables that are read, all of them
mod machine; // processor, memory
mod files; // writing so that nobody sees half of a file
mod starter; // the model that is part of the binary
mod models; // which model is meant
mod engine; // the one door to the pipelines
mod interrupt; // Ctrl-C
mod progress; // what a person sees meanwhile
mod service; // what server and worker share, and how they are wired
mod commands; // what can be done
mod exit; // how it ends

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // SAFETY: the process has no other thread yet.
    let files = unsafe {
        environment::keep_candle_quiet();
        environment::read_files()
    };
    masuka_kernels::memory::keep_freed_pages();
    let cli = cli::Cli::parse();
    exit::code(files.and_then(|files| commands::run(&cli.command, &files)))
}
