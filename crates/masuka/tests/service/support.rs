//! A server of one's own, in a folder of its own, on a port that the system chose.

use std::io::{BufRead, BufReader, Write};
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
    /// A folder of the server's own that has a small disk in memory, seen by it and its worker only.
    pub small_disk: Option<SmallDisk>,
    /// What `MASUKA_LOG` says; the log is then a file, `log`.
    pub log: Option<&'static str>,
}

/// A disk that is soon full.
#[derive(Clone, Copy)]
pub struct SmallDisk {
    pub folder: &'static str,
    pub kib: u32,
}

impl SmallDisk {
    /// The flags by which `unshare` gives a process mounts of its own, if this machine lets it.
    fn unshare() -> Option<&'static [&'static str]> {
        let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
        ways.into_iter().find(|way| {
            let mut command = Command::new("unshare");
            command.args(*way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        })
    }
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

    /// A server with a small disk; without one, and with a loud word, where no process may have mounts of its own.
    pub fn on_small_disk(options: Options) -> Option<Self> {
        if SmallDisk::unshare().is_none() {
            // Past the test harness, which keeps what a passing test prints to itself.
            let word =
                "skipped: `unshare --mount` is not permitted here, so that no disk can be filled\n";
            std::io::stderr().write_all(word.as_bytes()).expect("stderr");
            return None;
        }
        Some(Self::with(options))
    }

    /// A path as the server sees it, which may lie on its small disk.
    pub fn seen_by_server(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.server_pid(), self.data(name).display()))
    }

    /// Fills the small disk to its last byte; it has room again when the file is removed.
    pub fn fill(&self, folder: &str) -> PathBuf {
        let filler = self.seen_by_server(folder).join("filler");
        std::fs::write(&filler, vec![0; 64 << 20]).expect_err("more than fits");
        filler
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

/// The program, with a small disk of its own where that is asked for.
fn program(folder: &Path, small_disk: Option<SmallDisk>) -> Command {
    match small_disk {
        None => Command::new(env!("CARGO_BIN_EXE_masuka")),
        Some(SmallDisk { folder: mounted, kib }) => with_disk(&folder.join(mounted), kib),
    }
}

/// The program, to which `folder` is empty; nothing where no process may have mounts of its own.
pub fn blind_to(folder: &Path) -> Option<Command> {
    SmallDisk::unshare()?;
    Some(with_disk(folder, 64))
}

/// The program, which sees a disk of its own at `mounted`.
fn with_disk(mounted: &Path, kib: u32) -> Command {
    let program = env!("CARGO_BIN_EXE_masuka");
    std::fs::create_dir_all(mounted).expect("a folder to mount at");
    let mut command = Command::new("unshare");
    command.args(SmallDisk::unshare().expect("mounts of its own"));
    let script = format!(r#"mount -t tmpfs -o size={kib}k tmpfs "$0" && exec "$@""#);
    command.args(["/bin/sh", "-c", &script]).arg(mounted).arg(program);
    command
}

fn spawn(folder: &Path, options: &Options) -> (Child, SocketAddr) {
    let mut command = program(folder, options.small_disk);
    command.args(["serve", "--port", "0"]).args(&options.flags).env_clear().current_dir(folder);
    command.env("MASUKA_DATA_DIR", folder).env("MASUKA_LOG", "warn").env("RUST_BACKTRACE", "1");
    if let Some(level) = options.log {
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        command.env("MASUKA_LOG", level).stderr(log);
    }
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split(' ').next());
    let address = address.unwrap_or_else(|| panic!("no address: `{line}`"));
    (child, address.parse().expect("an address"))
}
