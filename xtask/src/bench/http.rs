//! Just enough HTTP to measure a server on the loopback.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection that is kept open.
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
}

impl Connection {
    pub(super) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("failed to connect to {address}"))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address: address.to_owned() })
    }

    pub(super) fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.stream.write_all(head.as_bytes())?;
        self.answer()
    }

    pub(super) fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.post_with(path, &format!("content-type: {content_type}"), body)
    }

    /// Posts with header lines of the caller's own, separated by line breaks.
    pub(super) fn post_with(&mut self, path: &str, headers: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\ncontent-length: {length}\r\n\r\n", self.address);
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.answer()
    }

    /// Reads one answer, with a `content-length` or in chunks, to its end.
    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut buffer = Vec::new();
        let mut chunk = [0; 64 * 1024];
        loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
                let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status")?;
                if header(&head, "transfer-encoding") == Some("chunked") {
                    if let Some(body) = dechunk(&buffer[end + 4..]) {
                        return Ok((status, body));
                    }
                } else {
                    let length: usize = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                    if buffer.len() >= end + 4 + length {
                        return Ok((status, buffer.split_off(end + 4)));
                    }
                }
            }
            let read = self.stream.read(&mut chunk)?;
            anyhow::ensure!(read > 0, "{} closed the connection", self.address);
            buffer.extend_from_slice(&chunk[..read]);
        }
    }
}

/// The content of all chunks, if the last one is there.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        let content = rest.get(line + 2..line + 2 + length)?;
        body.extend_from_slice(content);
        rest = rest.get(line + 2 + length + 2..)?;
        if length == 0 {
            return Some(body);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together_once_all_are_there() {
        assert_eq!(dechunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(dechunk(b"3\r\nabc\r\n2\r\nde"), None);
    }
}
