//! A server of files for the tests of downloads: it can cut connections, redirect, and remember what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked: the path and some headers.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub path: String,
    pub host: String,
    pub from: usize,
    /// The last byte, if one was named.
    pub to: Option<usize>,
    pub token: Option<String>,
}

/// What is answered.
pub enum Reply {
    /// The file from where it was asked, if ranges are honoured; of it at most so many bytes before the cut.
    File { bytes: Vec<u8>, cut_after: Option<usize> },
    /// Go there.
    Redirect(String),
    /// A status, with a body, whatever part was asked for.
    Status(u16, String),
    /// A file that claims to be this long.
    Long(u64),
}

impl Reply {
    pub fn file(bytes: &[u8]) -> Self {
        Self::File { bytes: bytes.to_vec(), cut_after: None }
    }
}

pub struct Elsewhere {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Elsewhere {
    /// Answers until the test ends.
    pub fn start(reply: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(question) = read(&stream) else { continue };
                log.lock().unwrap().push(question.clone());
                drop(answer(stream, &question, reply(&question)));
            }
        });
        Self { address, asked }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, ..Asked::default() };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "host" => asked.host = value.to_owned(),
            "authorization" => asked.token = Some(value.to_owned()),
            "range" => {
                let range = value.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
                let (from, to) = range.unwrap();
                (asked.from, asked.to) = (from.parse().unwrap(), to.parse().ok());
            }
            _ => {}
        }
    }
    Some(asked)
}

fn answer(mut stream: TcpStream, asked: &Asked, reply: Reply) -> std::io::Result<()> {
    let end = "connection: close\r\n\r\n";
    match reply {
        Reply::File { bytes, cut_after } => {
            let (total, from) = (bytes.len(), asked.from);
            let last = asked.to.unwrap_or(total - 1);
            let status = match (from, asked.to) {
                (0, None) => "200 OK".to_owned(),
                _ => format!("206 Partial\r\ncontent-range: bytes {from}-{last}/{total}"),
            };
            let length = last + 1 - from;
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"x\"\r\n{end}"
            )?;
            let sent = &bytes[from..];
            stream.write_all(&sent[..cut_after.unwrap_or(length).min(length)])
        }
        Reply::Redirect(to) => {
            write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n{end}")
        }
        Reply::Status(status, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: {length}\r\n{end}{body}")
        }
        Reply::Long(length) => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{end}beginning")
        }
    }
}
