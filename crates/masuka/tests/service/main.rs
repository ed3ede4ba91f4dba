//! The service as clients see it: the real binary over HTTP.

mod http; // a client of few words
mod support; // a server of one's own
mod generate; // pictures: asked for, looked at, deleted
mod faults; // kill -9, anywhere, anytime
mod refusals; // what is not accepted, and how that is said
mod streams; // Server-Sent Events
mod models; // LoRA
mod form; // uploads as browsers send them
mod slow_clients; // bodies that stop, bodies that take their time
mod datasets; // pictures to train on
mod training; // what is learned from them
mod page; // the web page, and the document its client is made from
mod imports; // LoRA from elsewhere, and out again
mod hub; // a hub of one model
mod installs; // base models from it
mod readme; // the README's commands
mod logs; // what is written down, and what never is
mod trouble; // disks, files, databases and memory
mod soak; // a thousand jobs
mod workers; // what workers are told to do
#[path = "../../../masuka-storage/tests/storage/elsewhere.rs"]
mod elsewhere; // a server of files
