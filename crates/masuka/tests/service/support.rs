//! A server of one's own, in a folder of its own, on a port that the system chose.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Request, Response};

/// The one door to a running server.
pub struct TestApp {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    options: Options,
    server: Child,
}

/// How a server is started.
#[derive(Clone, Default)]
pub struct Options {
    pub flags: Vec<&'static str>,
    pub variables: Vec<(&'static str, String)>,
}

impl TestApp {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with_flags(flags: &[&'static str]) -> Self {
        Self::with(Options { flags: flags.to_vec(), ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        share_starter(folder.path());
        let (server, address) = spawn(folder.path(), &options);
        Self { address, folder, options, server }
    }

    /// The same server again, over the same folder, after it was killed or has ended.
    pub fn restart(&mut self) {
        (self.server, self.address) = spawn(self.folder.path(), &self.options);
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn send(&self, request: Request) -> Response {
        request.send(self.address).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Response {
        self.send(Request::new("GET", path))
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Request::new("POST", path).json(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Response {
        self.send(Request::new("PATCH", path).json(body))
    }

    pub fn delete(&self, path: &str) -> Response {
        self.send(Request::new("DELETE", path))
    }

    /// Downloads an absolute URL of this server.
    pub fn download(&self, url: &Value) -> Response {
        let url = url.as_str().expect("a URL");
        let path = url.strip_prefix(&format!("http://{}", self.address)).expect("a URL of ours");
        self.get(path)
    }

    /// Asks for a small picture with `more` of its own; the job's id.
    pub fn generate(&self, more: Value) -> String {
        let created = self.post("/api/generate/image", &small(more)).expect(201);
        created["job_id"].as_str().expect("an id").to_owned()
    }

    /// The job once `is_there`.
    pub fn wait(&self, id: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let job = self.get(&format!("/api/generate/{id}")).expect(200);
            if is_there(&job) {
                return job;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "it never came: {job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The job in this state; fails at once when it ends in another.
    pub fn wait_for(&self, id: &str, status: &str) -> Value {
        let finals = ["completed", "failed", "cancelled"];
        let job = self.wait(id, |job| {
            let now = job["status"].as_str().unwrap_or_default();
            now == status || finals.contains(&now)
        });
        assert_eq!(job["status"], status, "{job}");
        job
    }

    /// What happened to a job, oldest first.
    pub fn told(&self, id: &str) -> Vec<String> {
        let log = self.get(&format!("/api/jobs/{id}/log")).expect(200);
        let events = log.as_array().expect("a list").iter();
        events.map(|entry| entry["event"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The system's number of the server.
    pub fn server_pid(&self) -> u32 {
        self.server.id()
    }

    /// The system's number of the worker, once there is one.
    pub fn worker(&self) -> u32 {
        let start = Instant::now();
        loop {
            let queue = self.get("/api/queue").expect(200);
            if let Some(pid) = queue["workers"][0]["pid"].as_u64() {
                return pid as u32;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no worker: {queue}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9, as a power cut would: nothing is told to anybody.
    pub fn kill_server(&mut self) {
        self.server.kill().expect("killed");
        self.server.wait().expect("waited for");
    }

    /// Lets the server end in order; its code.
    pub fn stop(&mut self) -> Option<i32> {
        signal(self.server.id(), "TERM");
        self.server.wait().expect("waited for").code()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Sends a signal by the system's own program.
pub fn signal(pid: u32, name: &str) {
    let killed = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(killed.expect("kill").success(), "kill -{name} {pid}");
}

/// A request that takes moments on the starter model.
pub fn small(more: Value) -> Value {
    let mut body = json!({
        "prompt": "red apple, noto style", "num_inference_steps": 2, "width": 64, "height": 64, "seed": 7,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// All servers use one unpacked starter model, as all runs of a user do.
fn share_starter(folder: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data/models");
    std::fs::create_dir_all(&shared).expect("a shared folder");
    std::os::unix::fs::symlink(&shared, folder.join("models")).expect("a link");
}

fn spawn(folder: &Path, options: &Options) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masuka"));
    command.args(["serve", "--port", "0"]).args(&options.flags).env_clear().current_dir(folder);
    command.env("MASUKA_DATA_DIR", folder).env("MASUKA_LOG", "warn").env("RUST_BACKTRACE", "1");
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split(' ').next());
    let address = address.unwrap_or_else(|| panic!("no address: `{line}`"));
    (child, address.parse().expect("an address"))
}
