//! As much of an HTTP/1.1 client as filling and steering the store takes: one kept-alive connection, lengths known.

use super::error::{At, Error, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A silent store is an error after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the store.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

/// As much of a response's head as anybody here needs.
struct Response {
    /// Bytes of the body.
    length: u64,
    etag: String,
}

impl Client {
    /// Connects.
    pub fn connect(host: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&host, PATIENCE).at(host)?;
        stream.set_nodelay(true).at(host)?;
        stream.set_read_timeout(Some(PATIENCE)).at(host)?;
        stream.set_write_timeout(Some(PATIENCE)).at(host)?;
        Ok(Client { stream: BufReader::with_capacity(256 << 10, stream), host })
    }

    /// PUTs a body of known length, which `body` writes.
    pub fn put(&mut self, path: &str, length: u64, body: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.request("PUT", path, length)?;
        body(self.stream.get_mut())?;
        self.response("PUT", path).map(drop)
    }

    /// PUTs bytes; what the store calls them.
    pub fn put_bytes(&mut self, path: &str, bytes: &[u8]) -> Result<String> {
        self.request("PUT", path, bytes.len() as u64)?;
        self.stream.get_mut().write_all(bytes).at(path)?;
        self.response("PUT", path).map(|response| response.etag)
    }

    /// POSTs a short body and reads a short one.
    pub fn post(&mut self, path: &str, body: &str) -> Result<String> {
        self.request("POST", path, body.len() as u64)?;
        self.stream.get_mut().write_all(body.as_bytes()).at(path)?;
        let length = self.response("POST", path)?.length;
        self.text("POST", path, length)
    }

    /// DELETEs an object.
    pub fn delete(&mut self, path: &str) -> Result<()> {
        self.request("DELETE", path, 0)?;
        self.response("DELETE", path).map(drop)
    }

    /// GETs a short body.
    pub fn get(&mut self, path: &str) -> Result<String> {
        self.request("GET", path, 0)?;
        let length = self.response("GET", path)?.length;
        self.text("GET", path, length)
    }

    fn text(&mut self, method: &str, path: &str, length: u64) -> Result<String> {
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).at(path)?;
        String::from_utf8(body).map_err(|_| Error::Http { request: format!("{method} {path}"), why: "not UTF-8".to_owned() })
    }

    /// GETs an object and drops its bytes.
    pub fn get_and_drop(&mut self, path: &str) -> Result<()> {
        self.request("GET", path, 0)?;
        let length = self.response("GET", path)?.length;
        let dropped = std::io::copy(&mut self.stream.by_ref().take(length), &mut std::io::sink()).at(path)?;
        if dropped < length {
            return Err(Error::Http { request: format!("GET {path}"), why: format!("{dropped} of {length} bytes") });
        }
        Ok(())
    }

    /// GETs the bytes of an object from an offset on, as many as `into` has room for.
    pub fn get_range(&mut self, path: &str, from: u64, into: &mut [u8]) -> Result<()> {
        let range = format!("Range: bytes={from}-{}\r\n", from + into.len() as u64 - 1);
        self.request_with("GET", path, 0, &range)?;
        let length = self.response("GET", path)?.length;
        if length != into.len() as u64 {
            return Err(Error::Http { request: format!("GET {path}"), why: format!("{length} bytes, not {}", into.len()) });
        }
        self.stream.read_exact(into).at(path)
    }

    fn request(&mut self, method: &str, path: &str, length: u64) -> Result<()> {
        self.request_with(method, path, length, "")
    }

    fn request_with(&mut self, method: &str, path: &str, length: u64, headers: &str) -> Result<()> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n{headers}\r\n", self.host);
        self.stream.get_mut().write_all(head.as_bytes()).at(path)
    }

    /// Reads a response's head; the body stays unread.
    fn response(&mut self, method: &str, path: &str) -> Result<Response> {
        let wrong = |why: String| Error::Http { request: format!("{method} {path}"), why };
        let status = self.line(path)?;
        let mut response = Response { length: 0, etag: String::new() };
        loop {
            let line = self.line(path)?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                response.length = value.trim().parse().map_err(|_| wrong(format!("bad length '{value}'")))?;
            }
            if let Some(value) = line.strip_prefix("etag:") {
                response.etag = value.trim().to_owned();
            }
        }
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(response),
            _ => Err(wrong(status)),
        }
    }

    fn line(&mut self, path: &str) -> Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).at(path)? {
            0 => Err(Error::Http { request: path.to_owned(), why: "connection closed".to_owned() }),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
