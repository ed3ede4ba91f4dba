//! Signals between machines by NATS. With `MASUKA_TEST_NATS=nats-server`, as `scripts/with-nats` sets it, each test
//! starts a server of its own; without it there is nothing to test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::ServerAddr;
use masuka_storage::StorageConfig;
use masuka_storage::bus::{Bus, Signal, nats_servers, nats_version};
use serde_json::json;

use crate::signals::{cancel, connect, next};
use crate::store::Store;

/// What a server asks for, and how an address names it.
#[derive(Clone, Copy)]
struct Login {
    arguments: &'static [&'static str],
    in_url: &'static str,
}

const PASSWORD: Login =
    Login { arguments: &["--user", "ada", "--pass", "secret/@"], in_url: "ada:secret%2F%40" };
const TOKEN: Login = Login { arguments: &["--auth", "secret token"], in_url: "secret%20token" };

/// A server that ends with its test.
struct NatsServer {
    program: String,
    login: Login,
    port: u16,
    process: Child,
}

impl NatsServer {
    fn start(login: Login) -> Option<Self> {
        let program = std::env::var("MASUKA_TEST_NATS").ok()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { process: run(&program, login, port), program, login, port })
    }

    fn url(&self) -> String {
        format!("nats://{}@127.0.0.1:{}", self.login.in_url, self.port)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = run(&self.program, self.login, self.port);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(program: &str, login: Login, port: u16) -> Child {
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).args(login.arguments);
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Two machines of one studio: a data folder each.
struct Machines {
    here: Bus,
    there: Bus,
    store: Store,
    elsewhere: StorageConfig,
    _folder: tempfile::TempDir,
}

impl Machines {
    async fn new(server: &NatsServer) -> Self {
        let (store, folder) = (Store::new().await, tempfile::tempdir().unwrap());
        let config = StorageConfig { nats_url: Some(server.url().into()), ..store.config.clone() };
        let elsewhere = StorageConfig { data_dir: folder.path().into(), ..config.clone() };
        let here = Bus::join(&config, "ours", "here");
        let there = Bus::join(&elsewhere, "ours", "there");
        Self { here, there, store, elsewhere, _folder: folder }
    }
}

#[tokio::test]
async fn machines_hear_each_other_with_previews_and_no_other_studio() {
    let Some(server) = NatsServer::start(PASSWORD) else { return };
    let machines = Machines::new(&server).await;
    let stranger = Bus::join(&machines.elsewhere, "theirs", "stranger");
    let mut far = machines.there.subscribe();
    connect(&machines.here, &mut far).await;
    let progress = json!({ "step": 1, "preview_url": "x".repeat(20_000) });
    let step = Signal::Step { job_id: "a".into(), epoch: 1, progress };
    machines.here.publish(&step);
    assert_eq!(next(&mut far).await, step, "whole, unlike PostgreSQL's notices");
    let mut strange = stranger.subscribe();
    let mut own = machines.here.subscribe();
    machines.here.publish(&cancel("b"));
    assert_eq!(next(&mut far).await, cancel("b"));
    assert_eq!(next(&mut own).await, cancel("b"));
    machines.here.publish(&cancel("c"));
    assert_eq!(next(&mut far).await, cancel("c"));
    assert_eq!(next(&mut own).await, cancel("c"), "no notice of its own between");
    assert!(strange.try_recv().is_err(), "heard another studio");
}

#[tokio::test]
async fn a_lost_server_stops_nobody_and_is_found_again() {
    let Some(mut server) = NatsServer::start(PASSWORD) else { return };
    let machines = Machines::new(&server).await;
    let mut far = machines.there.subscribe();
    connect(&machines.here, &mut far).await;
    server.kill();
    for _ in 0..2_000 {
        machines.here.publish(&cancel("lost")); // more than anything holds; none may wait for the server
    }
    let id = machines.store.enqueue(0, "a").await;
    let claimed = machines.store.claim("w", None).await.expect("the database has it");
    assert_eq!(claimed.job.id, id);
    let error = nats_version(&server.url()).await.unwrap_err().to_string();
    assert!(error.contains("once a second") && !error.contains("secret"), "{error}");

    server.start_again();
    connect(&machines.here, &mut far).await;
    machines.there.publish(&cancel("back"));
    machines.here.publish(&cancel("there"));
    while next(&mut far).await != cancel("there") {}
    assert!(nats_version(&server.url()).await.unwrap().starts_with("2."));
}

#[tokio::test]
async fn a_server_that_comes_after_its_clients_is_found() {
    let Some(mut server) = NatsServer::start(PASSWORD) else { return };
    server.kill();
    let machines = Machines::new(&server).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start_again();
    connect(&machines.here, &mut machines.there.subscribe()).await;
}

#[tokio::test]
async fn a_user_without_a_password_is_a_token() {
    let Some(server) = NatsServer::start(TOKEN) else { return };
    let machines = Machines::new(&server).await;
    connect(&machines.here, &mut machines.there.subscribe()).await;
}

#[test]
fn addresses_are_checked_and_never_repeated() {
    let check = |url: &str, addresses: &[&str]| {
        let (servers, _) = nats_servers(url).unwrap();
        let urls: Vec<_> = servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, addresses);
    };
    check("nats://localhost:4222", &["nats://localhost:4222"]);
    check("tls://a:secret@one:4222, nats://two", &["tls://one:4222", "nats://two"]);
    check("secret@one", &["nats://one"]);
    for url in ["http://a:secret@one", "nats:///secret"] {
        let error = nats_servers(url).expect_err(url).to_string();
        assert!(error.contains("nats://[user:password@ or token@]host:4222"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
