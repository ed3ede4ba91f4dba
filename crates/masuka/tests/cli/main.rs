//! The command line, through the real binary and the starter model.

mod support; // the one door to the binary
mod generate; // prompt to picture files
mod like; // a picture made again
mod train; // pictures become an adapter
mod inspect; // what files say about themselves
mod doctor; // what this machine can do
