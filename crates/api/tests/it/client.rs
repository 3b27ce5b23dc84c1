//! A small HTTP client: what a browser or a script sends, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names, as sent otherwise.
    pub headers: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name))).map(|pair| pair.1)
    }
}

pub struct Server(pub SocketAddr);

impl Server {
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &["content-type: application/json"], body).await
    }

    pub async fn form(&self, path: &str, body: &str) -> Answer {
        let origin = format!("origin: http://{}", self.0);
        self.send("POST", path, &["content-type: application/x-www-form-urlencoded", &origin, "sec-fetch-site: same-origin"], body).await
    }

    /// One request a connection, so that the answer ends with it.
    pub async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.0).await.expect("connects");
        let host = if headers.iter().any(|header| header.starts_with("host:")) { String::new() } else { format!("host: {}\r\n", self.0) };
        let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{lines}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.expect("sends");
        let bytes = tokio::time::timeout(Duration::from_secs(30), whole(&mut stream)).await.expect("answers in time");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, headers: head.replace("\r\n", "\n"), body: body.to_owned() }
    }

    /// Opens the live stream; gives the status line, and the connection when it was taken.
    pub async fn live(&self, origin: Option<&str>) -> (String, Live) {
        let mut stream = TcpStream::connect(self.0).await.expect("connects");
        let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {}\r\n{origin}connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.0
        );
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        (String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned(), Live(stream))
    }
}

/// Reads one answer: as long as it says, else until the connection ends.
async fn whole(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let length = head.and_then(|head| {
            let head = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
        });
        if let (Some(head), Some(length)) = (head, length)
            && bytes.len() >= head + length
        {
            return bytes;
        }
        if stream.read_buf(&mut bytes).await.expect("reads") == 0 {
            return bytes;
        }
    }
}

pub struct Live(TcpStream);

impl Live {
    /// The next frame: its opcode and payload (RFC 6455, 5.2; a server's frames are not masked).
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.expect("a frame");
            let length = match self.0.read_u8().await.expect("a length") & 0x7f {
                126 => usize::from(self.0.read_u16().await.expect("a length")),
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.expect("a payload");
            (first & 0x0f, payload)
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("a frame in time")
    }

    /// The next text message as JSON; pings are passed over.
    pub async fn json(&mut self) -> serde_json::Value {
        loop {
            let (opcode, payload) = self.frame().await;
            if opcode == 1 {
                return serde_json::from_slice(&payload).expect("JSON");
            }
        }
    }
}
