//! A hub that has the starter model as `owner/icons`, and does what a test asks of it: refuse, cut, wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::elsewhere::{Asked, Elsewhere, Reply};

pub const REPO: &str = "owner/icons";
/// The largest file.
pub const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";
/// What arrives of it before the connection is cut or the hub waits.
pub const CUT_AFTER: usize = 5_000_000;
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the hub behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Good,
    /// The list is answered by this status.
    Refuses(u16),
    /// The list is answered by this status unless a token is sent.
    Gated(u16),
    /// Each connection for the weights is cut.
    Cuts,
    /// The first connection for the weights is cut, the next waits until the hub is released.
    Waits,
    /// The weights are other than the list says.
    Damages,
    /// The list tells of more than any disk can hold.
    Huge,
    /// Large files are sent on to `localhost`, which nobody has allowed.
    SendsAway,
}

pub struct FakeHub {
    pub server: Elsewhere,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl FakeHub {
    pub fn start(manner: Manner) -> Self {
        let files = files();
        let gate = Arc::new((Mutex::new(manner != Manner::Waits), Condvar::new()));
        let here = gate.clone();
        let list = format!("/api/models/{REPO}/revision/main?blobs=true");
        let prefix = format!("/{REPO}/resolve/{REVISION}/");
        let server = Elsewhere::start(move |asked| {
            if asked.path == list {
                return answer_list(asked, manner, &files);
            }
            let Some(name) = asked.path.strip_prefix(&prefix) else {
                return Reply::Status(404, "no such model".into());
            };
            answer_file(asked, name, manner, &files, &here)
        });
        Self { server, gate }
    }

    /// Lets go on what waits.
    pub fn release(&self) {
        *self.gate.0.lock().expect("the gate") = true;
        self.gate.1.notify_all();
    }

    /// From which byte on the weights were asked for, each time.
    pub fn weights_asked_from(&self) -> Vec<usize> {
        let asked = self.server.asked();
        asked.iter().filter(|a| a.path.ends_with(WEIGHTS)).map(|a| a.from).collect()
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.release();
    }
}

fn answer_list(asked: &Asked, manner: Manner, files: &Files) -> Reply {
    match manner {
        Manner::Refuses(status) => return Reply::Status(status, "no".into()),
        Manner::Gated(status) if asked.token.is_none() => {
            return Reply::Status(status, "no".into());
        }
        _ => {}
    }
    let sibling = |(name, content): (&String, &Vec<u8>)| {
        let size = if manner == Manner::Huge { 1 << 60 } else { content.len() };
        let is_large = name.ends_with(".safetensors");
        let sha256 = is_large.then(|| json!({ "sha256": sha256(content) }));
        json!({ "rfilename": name, "size": size, "blobId": &sha256_of(name)[..40], "lfs": sha256 })
    };
    let siblings: Vec<_> = files.iter().map(sibling).collect();
    Reply::Status(200, json!({ "sha": REVISION, "siblings": siblings }).to_string())
}

fn answer_file(
    asked: &Asked,
    name: &str,
    manner: Manner,
    files: &Files,
    gate: &(Mutex<bool>, Condvar),
) -> Reply {
    let bytes = files.get(name).unwrap_or_else(|| panic!("{name} is not needed")).clone();
    if name != WEIGHTS {
        return Reply::File { bytes, cut_after: None };
    }
    let is_first = asked.from == 0;
    match manner {
        Manner::Cuts => Reply::File { bytes, cut_after: Some(CUT_AFTER) },
        Manner::Waits if is_first => Reply::File { bytes, cut_after: Some(CUT_AFTER) },
        Manner::Waits => {
            let open = gate.0.lock().expect("the gate");
            let wait = gate.1.wait_timeout_while(open, Duration::from_secs(60), |open| !*open);
            drop(wait.expect("the gate"));
            Reply::File { bytes, cut_after: None }
        }
        Manner::Damages => Reply::File { bytes: vec![7; bytes.len()], cut_after: None },
        Manner::SendsAway => {
            let port = asked.host.rsplit(':').next().expect("a port");
            Reply::Redirect(format!("http://localhost:{port}{}", asked.path))
        }
        _ => Reply::File { bytes, cut_after: None },
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// What lies in `models/starter`, by its path there.
fn files() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    let mut found = Files::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the starter model") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("inside").display().to_string();
            found.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
    found
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256_of(text: &str) -> String {
    sha256(text.as_bytes())
}
