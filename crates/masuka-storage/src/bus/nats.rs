//! Notices by NATS core, which keeps nothing: what is sent while nobody listens or the server is away is lost, and found
//! in the database a moment later.

use std::fmt::Display;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, ServerAddr};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::far::Ear;
use crate::downloads::use_ring;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// A server accepts 1 MiB unless it is told otherwise.
pub(super) const MAX_BYTES: usize = 512 << 10;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The server that passes notices on, and the subject of this studio's.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) url: Secret,
    pub(super) subject: String,
}

/// The servers of a `NATS_URL`, one or several of a cluster, separated by commas, and options with the user whom the first
/// of them names. The addresses are without it: the client takes no user from them, and writes them into its log.
///
/// # Errors
/// [`Error::Config`] without the address itself, which may hold a password.
pub fn nats_servers(url: &str) -> Result<(Vec<ServerAddr>, ConnectOptions)> {
    let address = |part: &str| part.trim().parse::<ServerAddr>().map_err(no_address);
    let named: Vec<_> = url.split(',').map(address).collect::<Result<_>>()?;
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let options = ConnectOptions::new().connection_timeout(CONNECT_WITHIN);
    let user = named.iter().find_map(|server| Some((server.username()?, server.password())));
    let options = match user {
        Some((user, Some(password))) => options.user_and_password(decode(user), decode(password)),
        Some((token, None)) => options.token(decode(token)),
        None => options,
    };
    Ok((named.into_iter().map(without_user).collect::<Result<_>>()?, options))
}

fn without_user(address: ServerAddr) -> Result<ServerAddr> {
    let mut url = address.into_inner();
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| no_address("it names no host"))?;
    ServerAddr::from_url(url).map_err(no_address)
}

fn no_address(reason: impl Display) -> Error {
    let form = "nats://[user:password@ or token@]host:4222, several separated by commas";
    Error::Config(format!("NATS_URL is no address ({reason}); its form is {form}"))
}

/// Asks the server of a `NATS_URL` for its version.
///
/// # Errors
/// [`Error::Config`] with the reason and what follows from it.
pub async fn nats_version(url: &str) -> Result<String> {
    let (servers, options) = nats_servers(url)?;
    use_ring();
    let silent = || "it does not answer".to_owned();
    let connected = timeout(CONNECT_WITHIN, options.connect(servers)).await;
    let client = connected.map_err(|_| silent()).and_then(|c| c.map_err(|e| e.to_string()));
    let client = client.map_err(|reason| {
        let follows = "until it is there, machines learn of each other's jobs once a second";
        Error::Config(format!("the server of NATS_URL cannot be used ({reason}); {follows}"))
    })?;
    Ok(client.server_info().version)
}

impl Line {
    /// Until the sender of `receiver` is dropped. A lost server is looked for again and again meanwhile.
    pub(super) async fn pass_on(
        &self,
        ear: &Ear,
        receiver: &mut mpsc::Receiver<String>,
    ) -> std::result::Result<(), String> {
        let client = self.connect().await.map_err(|error| error.to_string())?;
        let subscribed = client.subscribe(self.subject.clone()).await;
        let mut notices = subscribed.map_err(|error| error.to_string())?;
        loop {
            tokio::select! {
                notice = notices.next() => match notice {
                    Some(notice) => ear.hear(&notice.payload),
                    None => return Err("the subscription has ended".into()),
                },
                text = receiver.recv() => {
                    let Some(text) = text else { return Ok(()) };
                    // What would be delivered after a while would tell of what is long over.
                    if client.connection_state() == State::Connected {
                        let sent = client.publish(self.subject.clone(), text.into()).await;
                        sent.map_err(|error| error.to_string())?;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Client> {
        let (servers, options) = nats_servers(self.url.expose())?;
        use_ring();
        let options = options.name("masuka").retry_on_initial_connect();
        let options = options.event_callback(async |event| tracing::info!("NATS: {event}"));
        let connected = options.connect(servers).await;
        connected.map_err(|error| Error::Config(format!("NATS_URL: {error}")))
    }
}
