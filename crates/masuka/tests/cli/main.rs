//! The command line, through the real binary and the starter model.

mod support; // the one door to the binary
mod generate; // prompt to picture files
mod like; // a picture made again
mod train; // pictures become an adapter
mod models; // base models from a hub: installed, listed, removed
mod inspect; // what files say about themselves
mod doctor; // what this machine can do
#[path = "../../../masuka-storage/tests/storage/elsewhere.rs"]
#[expect(dead_code, reason = "the service's tests need more of it")]
mod elsewhere; // a server of files
#[path = "../service/hub.rs"]
#[expect(dead_code, reason = "the service's tests need more of it")]
mod hub; // a hub of one model
