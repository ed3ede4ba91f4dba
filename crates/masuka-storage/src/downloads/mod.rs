//! Files from elsewhere, by HTTP: what was cut resumes, sizes are capped, hashes are checked, and a user's address
//! leads nowhere private.

mod reach; // which addresses may be asked
mod hub; // base models from a hub
mod part; // a file that is not whole yet
mod segments; // large files by several connections at once
mod patience; // what is cut is taken up again, but not for ever

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, IF_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use crate::error::{Error, Result};
use crate::secret::{self, Secret};

use part::Part;
use patience::Patience;

pub use hub::{Found, Hub, HubModel, Installing};
pub use reach::Reach;
pub use reqwest::Url;

const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// A server that sends nothing for this long counts as cut off.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// What one connection fetches of a large file before it asks for more.
const SEGMENT_BYTES: u64 = 16 << 20;
const MAX_REDIRECTS: usize = 10;

/// What is to be downloaded.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it is.
    pub url: Url,
    /// Sent as `Authorization: Bearer`, to the host of `url` and to no other.
    pub token: Option<Secret>,
    /// The most that is accepted.
    pub max_bytes: u64,
    /// Its size, where it is known before; large files are then fetched by several connections.
    pub bytes: Option<u64>,
    /// In hexadecimal, where it is known before.
    pub sha256: Option<String>,
}

/// What has been downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Size of the file.
    pub bytes: u64,
    /// Of the file, in hexadecimal.
    pub sha256: String,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes of the whole file, where the server says.
    pub total: Option<u64>,
}

/// Hears how far a download is and may stop it by `false`.
pub type Told<'a> = dyn FnMut(Arrived) -> bool + Send + 'a;

/// Fetches files.
#[derive(Debug, Clone)]
pub struct Downloader {
    client: Client,
    reach: Reach,
    segment_bytes: u64,
}

/// Why an attempt ended early.
enum Broken {
    /// The connection; what has arrived stays good.
    Cut(String),
    /// For good.
    Final(Error),
    /// The server sends files from their beginning only.
    NoRanges,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Downloader {
    /// Asks the addresses within `reach`.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub fn new(reach: Reach) -> Result<Self> {
        use_ring();
        let client = Client::builder()
            .redirect(Policy::none()) // followed here, each checked
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENT_FOR)
            .dns_resolver(reach.clone())
            .user_agent(concat!("masuka/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::Config(format!("no HTTP client: {}", reasons(&e))))?;
        Ok(Self { client, reach, segment_bytes: SEGMENT_BYTES })
    }

    /// The same, by segments of another size.
    pub fn in_segments_of(self, segment_bytes: u64) -> Self {
        Self { segment_bytes, ..self }
    }

    /// The text at `url`, of at most `max_bytes`.
    ///
    /// # Errors
    /// [`Error::Download`].
    pub async fn text(&self, wanted: &Wanted) -> Result<String> {
        let url = wanted.url.as_str();
        let mut response = self.ask(wanted, |request| request).await.map_err(|e| e.at(url))?;
        check_status(&response, url)?;
        let mut text = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|e| Error::download(url, reasons(&e)))?
        {
            text.extend(chunk);
            if text.len() as u64 > wanted.max_bytes {
                return Err(too_long(url, wanted.max_bytes));
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Fetches a file to `path`, going on from what lies there; a part stays there when the connection is cut for
    /// good, and is removed when it can be no part of the file.
    ///
    /// # Errors
    /// [`Error::Download`], [`Error::Stopped`] by `told`, or the disk refuses.
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        path: &Path,
        told: &mut Told<'_>,
    ) -> Result<Downloaded> {
        let url = wanted.url.as_str();
        let mut part = Part::open(path).await?;
        let (mut patience, mut has_ranges) = (Patience::default(), true);
        loop {
            let before = part.bytes();
            let size = self.size_for_segments(wanted, &part).filter(|_| has_ranges);
            let outcome = match size {
                Some(size) => self.attempt_in_segments(wanted, size, &mut part, told).await,
                None => self.attempt(wanted, &mut part, told).await,
            };
            match outcome {
                Ok(()) => break,
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::NoRanges) => has_ranges = false,
                Err(Broken::Cut(reason)) => {
                    patience.wait(part.bytes() > before, reason, &wanted.url).await?;
                }
            }
        }
        let downloaded = part.finish().await?;
        match &wanted.sha256 {
            Some(sha256) if *sha256 != downloaded.sha256 => {
                drop(std::fs::remove_file(path));
                let reason = format!(
                    "its sha256 is {}, not {sha256}: the file is damaged and was removed; download it again",
                    downloaded.sha256
                );
                Err(Error::download(url, reason))
            }
            _ => Ok(downloaded),
        }
    }

    /// One connection's worth of it.
    async fn attempt(
        &self,
        wanted: &Wanted,
        part: &mut Part,
        told: &mut Told<'_>,
    ) -> Result<(), Broken> {
        let url = wanted.url.as_str();
        let (from, tag) = (part.bytes(), part.tag.clone());
        let resume = |request: RequestBuilder| match from {
            0 => request,
            _ => {
                let request = request.header(RANGE, format!("bytes={from}-"));
                tag.iter().fold(request, |request, tag| request.header(IF_RANGE, tag))
            }
        };
        let mut response = self.ask(wanted, resume).await?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            if total_of_range(&response) == Some(from) {
                return Ok(());
            }
            part.restart().await?;
            return Err(Broken::Cut("the part on disk is none of the file".into()));
        }
        check_status(&response, url).map_err(Broken::of_status)?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            part.restart().await?;
        }
        let total = response.content_length().map(|rest| part.bytes() + rest);
        if total.is_some_and(|total| total > wanted.max_bytes) {
            return Err(too_long(url, wanted.max_bytes).into());
        }
        part.tag = strong_tag(&response);
        part.check_room(total)?;
        loop {
            if !told(Arrived { bytes: part.bytes(), total }) {
                return Err(Error::Stopped.into());
            }
            let chunk = response.chunk().await.map_err(|e| Broken::Cut(reasons(&e)))?;
            let Some(chunk) = chunk else { break };
            if part.bytes() + chunk.len() as u64 > wanted.max_bytes {
                return Err(too_long(url, wanted.max_bytes).into());
            }
            part.write(&chunk).await?;
        }
        match total {
            Some(total) if part.bytes() != total => Err(Broken::Cut("it ended early".into())),
            _ => Ok(()),
        }
    }

    /// The answer after all redirects, each of which is checked as the first address was.
    async fn ask(
        &self,
        wanted: &Wanted,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Broken> {
        let mut url = wanted.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.reach.check(&url)?;
            let mut request = shape(self.client.get(url.clone()));
            if let Some(token) = &wanted.token
                && url.origin() == wanted.url.origin()
            {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            let response = request.send().await.map_err(|error| self.refused(&url, &error))?;
            let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let Some(location) = location.filter(|_| response.status().is_redirection()) else {
                return Ok(response);
            };
            let next = url.join(location);
            url = next.map_err(|e| Error::download(&url, format!("redirects to nowhere: {e}")))?;
        }
        Err(Error::download(&wanted.url, format!("redirects more than {MAX_REDIRECTS} times"))
            .into())
    }

    /// Names that lead to private addresses only are no accident of the network.
    fn refused(&self, url: &Url, error: &reqwest::Error) -> Broken {
        let reason = reasons(error);
        if self.reach.is_refusal(&reason) {
            return Error::download(url, reason).into();
        }
        Broken::Cut(reason)
    }
}

impl Broken {
    fn at(self, url: &str) -> Error {
        match self {
            Self::Cut(reason) => Error::download(url, reason),
            Self::NoRanges => Error::download(url, "the server sends no part of a file"),
            Self::Final(error) => error,
        }
    }

    /// A server that is overloaded or broken may be neither in a moment.
    fn of_status(error: Error) -> Self {
        match error {
            Error::Download { status: Some(429 | 500..=599), reason, .. } => Self::Cut(reason),
            other => Self::Final(other),
        }
    }
}

/// The cryptography of this process, unless it has one already.
pub(crate) fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn check_status(response: &Response, url: &str) -> Result<()> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("the server answers {status}");
    Err(Error::Download { url: secret::address(url), status: Some(status.as_u16()), reason })
}

fn too_long(url: &str, max_bytes: u64) -> Error {
    Error::download(url, format!("it is longer than the {max_bytes} bytes that are accepted"))
}

/// The size after the slash of `Content-Range: bytes */123`.
fn total_of_range(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit('/').next()?.parse().ok()
}

/// An ETag that stands for exactly these bytes.
fn strong_tag(response: &Response) -> Option<String> {
    let tag = response.headers().get("etag")?.to_str().ok()?;
    (!tag.starts_with("W/")).then(|| tag.to_owned())
}

/// An error with its sources; the outermost alone says little. URLs are left out: they may be signed.
fn reasons(error: &reqwest::Error) -> String {
    let mut reason = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        reason = error.to_string();
        source = error.source();
    }
    if reason.is_empty() { "the connection failed".into() } else { reason }
}
