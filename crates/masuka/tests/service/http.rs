//! A client of few words: one connection a request, no redirects, no magic.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What a server answered.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The JSON of an answer that must have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// A request to be sent.
pub struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.1\r\n"), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The open answer; fails when the server is gone.
    pub fn open(mut self, address: SocketAddr) -> std::io::Result<Answer> {
        let mut stream = self.send_head(address)?;
        // A server that refuses early closes before it has read everything.
        drop(stream.write_all(&self.body));
        Answer::read(stream, !self.head.starts_with("HEAD "))
    }

    /// The answer although only the first `count` bytes of the body are sent.
    pub fn send_first(mut self, count: usize, address: SocketAddr) -> std::io::Result<Response> {
        let mut stream = self.send_head(address)?;
        stream.write_all(&self.body[..count])?;
        Answer::read(stream, true)?.finish()
    }

    /// The answer to a body that comes in `pieces`, each after a `pause`.
    pub fn send_slowly(
        mut self,
        (pieces, pause): (usize, Duration),
        address: SocketAddr,
    ) -> std::io::Result<Response> {
        let mut stream = self.send_head(address)?;
        for piece in self.body.chunks(self.body.len().div_ceil(pieces)) {
            std::thread::sleep(pause);
            stream.write_all(piece)?;
        }
        Answer::read(stream, true)?.finish()
    }

    /// A connection on which all but the body was sent.
    fn send_head(&mut self, address: SocketAddr) -> std::io::Result<TcpStream> {
        if !self.head.to_lowercase().contains("\r\nhost:") {
            self.head.push_str(&format!("host: {address}\r\n"));
        }
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let length = self.body.len();
        let end = format!("content-length: {length}\r\nconnection: close\r\n\r\n");
        stream.write_all([self.head.as_bytes(), end.as_bytes()].concat().as_slice())?;
        Ok(stream)
    }

    pub fn send(self, address: SocketAddr) -> std::io::Result<Response> {
        self.open(address)?.finish()
    }
}

/// An answer whose head has been read.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    has_body: bool,
    stream: BufReader<TcpStream>,
}

impl Answer {
    fn read(stream: TcpStream, has_body: bool) -> std::io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?;
        let ended = || std::io::Error::other(format!("no answer: `{status}`"));
        let status =
            status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(ended)?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut stream)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        Ok(Self { status, headers, has_body, stream })
    }

    fn is_chunked(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked")
    }

    fn finish(mut self) -> std::io::Result<Response> {
        let mut body = Vec::new();
        if self.is_chunked() {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        } else {
            self.stream.read_to_end(&mut body)?;
            let length = self.headers.iter().find(|(name, _)| name == "content-length");
            let length = length.and_then(|(_, value)| value.parse::<usize>().ok());
            if self.has_body && length.is_some_and(|length| length != body.len()) {
                return Err(std::io::Error::other("the answer ended early"));
            }
        }
        Ok(Response { status: self.status, headers: self.headers, body })
    }

    /// The next chunk of a chunked body.
    pub fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(&line(&mut self.stream)?, 16).unwrap_or(0);
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        line(&mut self.stream)?;
        Ok((size > 0).then_some(chunk))
    }
}

fn line(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
