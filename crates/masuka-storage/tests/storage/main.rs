//! The storage as server and workers use it, on SQLite and, with `scripts/with-postgres`, on PostgreSQL.

mod store; // a storage of its own for each test
mod queue; // who gets which job, when, and whose word counts
mod generations; // what users see of their pictures
mod elsewhere; // a server of files
mod blobs; // files by key
mod hub; // base models from a hub
mod downloads; // files from elsewhere
mod full; // what a full disk leaves behind
mod signals; // what processes tell each other at once
mod nats; // between machines
mod secrets; // what is shown to nobody
