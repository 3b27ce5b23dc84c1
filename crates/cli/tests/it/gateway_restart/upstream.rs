//! A stand-in for the model API that counts, call by call, what it was asked and what it answered in full.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Tokens that every answer reports.
pub const INPUT_TOKENS: u64 = 10;
pub const OUTPUT_TOKENS: u64 = 5;
pub const MODEL: &str = "claude-sonnet-4-5";
/// The header with a call's number, and what is to be done with it.
pub const CALL: &str = "x-call";
pub const WAY: &str = "x-way";
/// Pieces of text of a stream, and the time between two of them.
const PIECES: u32 = 10;
const PIECE_EVERY: Duration = Duration::from_millis(100);

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    /// A stream of a second.
    Stream,
    /// A stream of five seconds.
    Long,
    /// A stream without any pause.
    Quick,
    /// A stream that ends in the middle.
    Cut,
    Failure,
    Limited,
    Overloaded,
    /// The connection ends without an answer.
    Silent,
}

const WAYS: [(Way, &str); 9] = [
    (Way::Plain, "plain"),
    (Way::Stream, "stream"),
    (Way::Long, "long"),
    (Way::Quick, "quick"),
    (Way::Cut, "cut"),
    (Way::Failure, "failure"),
    (Way::Limited, "limited"),
    (Way::Overloaded, "overloaded"),
    (Way::Silent, "silent"),
];

impl Way {
    pub fn name(self) -> &'static str {
        WAYS.iter().find(|(way, _)| *way == self).unwrap().1
    }

    fn of(name: &str) -> Self {
        WAYS.iter().find(|(_, other)| *other == name).map_or(Self::Plain, |(way, _)| *way)
    }
}

struct Shared {
    asked: Vec<AtomicU8>,
    answered: Vec<AtomicU8>,
    open: Mutex<HashMap<u64, TcpStream>>,
    /// Calls for which a connection came, all in all.
    next: AtomicU64,
    is_down: AtomicBool,
    is_over: AtomicBool,
}

pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Upstream {
    /// Counts calls with numbers below this one.
    pub fn start(calls_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counters = || (0..calls_max).map(|_| AtomicU8::new(0)).collect();
        let shared = Arc::new(Shared {
            asked: counters(),
            answered: counters(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let taking = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || take(listener, address, &taking)));
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often this call came here.
    pub fn asked(&self, id: usize) -> u8 {
        self.shared.asked[id].load(Ordering::SeqCst)
    }

    /// How often it was answered from the first byte to the last.
    pub fn answered(&self, id: usize) -> u8 {
        self.shared.answered[id].load(Ordering::SeqCst)
    }

    /// Ends with all its connections, and comes back on the same port.
    pub fn restart(&self, away: Duration) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        // The listener has to see it.
        thread::sleep(Duration::from_millis(20));
        for stream in self.shared.open.lock().unwrap().values() {
            drop(stream.shutdown(Shutdown::Both));
        }
        thread::sleep(away);
        self.shared.is_down.store(false, Ordering::SeqCst);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().values() {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn take(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    while !shared.is_over.load(Ordering::SeqCst) {
        if shared.is_down.load(Ordering::SeqCst) {
            listener = None;
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let listening = listener.get_or_insert_with(|| TcpListener::bind(address).unwrap());
        listening.set_nonblocking(true).unwrap();
        let Ok((stream, _)) = listening.accept() else {
            thread::sleep(Duration::from_micros(500));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        let id = shared.next.fetch_add(1, Ordering::SeqCst);
        shared.open.lock().unwrap().insert(id, stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        let work = move || {
            drop(serve(&stream, &shared));
            shared.open.lock().unwrap().remove(&id);
            drop(stream.shutdown(Shutdown::Both));
        };
        drop(thread::Builder::new().stack_size(128 << 10).spawn(work).unwrap());
    }
}

/// One call after the other.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let (mut id, mut length, mut way, mut line) = (None, 0_u64, Way::Plain, String::new());
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                CALL => id = value.trim().parse::<usize>().ok(),
                WAY => way = Way::of(value.trim()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let count = |of: &[AtomicU8]| _ = id.and_then(|id| of.get(id)).map(|count| count.fetch_add(1, Ordering::SeqCst));
        count(&shared.asked);
        answer(&mut writer, id.unwrap_or_default(), way)?;
        if matches!(way, Way::Cut | Way::Silent) {
            return Ok(());
        }
        count(&shared.answered);
    }
}

fn answer(writer: &mut impl Write, id: usize, way: Way) -> io::Result<()> {
    match way {
        Way::Plain => {
            thread::sleep(Duration::from_millis(1));
            let usage = format!(r#"{{"input_tokens":{INPUT_TOKENS},"output_tokens":{OUTPUT_TOKENS}}}"#);
            let body = format!(
                r#"{{"id":"msg_{id}","type":"message","role":"assistant","model":"{MODEL}","content":[{{"type":"text","text":"hi"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}"#
            );
            whole(writer, 200, "", &body)
        }
        Way::Failure => whole(writer, 500, "", &fault("api_error")),
        Way::Limited => whole(writer, 429, "retry-after: 1\r\n", &fault("rate_limit_error")),
        Way::Overloaded => whole(writer, 529, "", &fault("overloaded_error")),
        Way::Silent => Ok(()),
        Way::Stream => stream(writer, id, PIECE_EVERY, PIECES, true),
        Way::Long => stream(writer, id, PIECE_EVERY, PIECES * 5, true),
        Way::Quick => stream(writer, id, Duration::ZERO, PIECES, true),
        Way::Cut => stream(writer, id, Duration::ZERO, PIECES / 2, false),
    }
}

fn fault(kind: &str) -> String {
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"as it was asked for"}}}}"#)
}

fn whole(writer: &mut impl Write, status: u16, more: &str, body: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n", body.len());
    writer.write_all(format!("{head}{body}").as_bytes())
}

fn stream(writer: &mut impl Write, id: usize, every: Duration, pieces: u32, to_the_end: bool) -> io::Result<()> {
    let mut event = |begin: &str, name: &str, body: &str| {
        let text = format!("event: {name}\ndata: {body}\n\n");
        writer.write_all(format!("{begin}{:x}\r\n{text}\r\n", text.len()).as_bytes())
    };
    let usage = format!(r#"{{"input_tokens":{INPUT_TOKENS},"output_tokens":1}}"#);
    let begin = format!(
        r#"{{"type":"message_start","message":{{"id":"msg_{id}","type":"message","role":"assistant","model":"{MODEL}","content":[],"stop_reason":null,"stop_sequence":null,"usage":{usage}}}}}"#
    );
    event("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", "message_start", &begin)?;
    event("", "content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#)?;
    for _ in 0..pieces {
        thread::sleep(every);
        event("", "content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ha"}}"#)?;
    }
    if !to_the_end {
        return Ok(());
    }
    event("", "content_block_stop", r#"{"type":"content_block_stop","index":0}"#)?;
    let end = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{OUTPUT_TOKENS}}}}}"#
    );
    event("", "message_delta", &end)?;
    event("", "message_stop", r#"{"type":"message_stop"}"#)?;
    writer.write_all(b"0\r\n\r\n")
}
