//! Clients that call again and again, and remember how each of their calls ended.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::upstream::{CALL, MODEL, Upstream, WAY, Way};

const PATIENCE: Duration = Duration::from_secs(60);
/// Who calls, so that there are some purses and some users.
const USERS: usize = 200;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With its whole answer, and it was the right one.
    Whole,
    Status(u16),
    /// No connection was taken.
    Refused,
    /// A connection ended before the answer began.
    Closed,
    /// The answer ended in the middle.
    Cut,
    /// The client went away by itself.
    Left,
    Wrong(String),
}

/// A client with a connection that it keeps for as long as it lasts.
pub struct Client {
    address: String,
    kept: Option<BufReader<TcpStream>>,
    /// Kept connections that were found closed, so that the call went over a new one.
    pub reopened: usize,
    /// How much of an answer is read before it goes away.
    pub leaves_after: Option<usize>,
}

enum Fault {
    /// Nothing of an answer came.
    Closed,
    Cut,
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), kept: None, reopened: 0, leaves_after: None }
    }

    /// One call. Over a connection that was kept it is sent again when that turns out to be closed, as all clients do.
    pub fn call(&mut self, id: usize, way: Way, fresh: bool) -> End {
        if fresh {
            self.kept = None;
        } else if let Some(kept) = self.kept.take() {
            match self.over(kept, id, way, false) {
                Ok(end) => return end,
                Err(Fault::Cut) => return End::Cut,
                Err(Fault::Closed) => self.reopened += 1,
            }
        }
        let stream = match TcpStream::connect(&self.address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return End::Refused,
            Err(_) => return End::Closed,
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match self.over(BufReader::new(stream), id, way, fresh) {
            Ok(end) => end,
            Err(Fault::Cut) => End::Cut,
            Err(Fault::Closed) => End::Closed,
        }
    }

    fn over(&mut self, mut connection: BufReader<TcpStream>, id: usize, way: Way, last: bool) -> Result<End, Fault> {
        let streams = matches!(way, Way::Stream | Way::Long | Way::Quick | Way::Cut);
        let body =
            format!(r#"{{"model":"{MODEL}","max_tokens":64,"stream":{streams},"messages":[{{"role":"user","content":"call {id}"}}]}}"#);
        let close = if last { "connection: close\r\n" } else { "" };
        let request = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: {}\r\n{CALL}: {id}\r\n{WAY}: {}\r\nx-user-id: u-{}\r\nx-api-key: sk-load\r\ncontent-type: application/json\r\n{close}content-length: {}\r\n\r\n{body}",
            self.address,
            way.name(),
            id % USERS,
            body.len()
        );
        connection.get_mut().write_all(request.as_bytes()).map_err(|_| Fault::Closed)?;
        if self.leaves_after == Some(0) {
            return Ok(End::Left);
        }
        let answer = read(&mut connection, self.leaves_after)?;
        if self.leaves_after.is_some() {
            return Ok(End::Left);
        }
        if !last && !answer.closes {
            self.kept = Some(connection);
        }
        if answer.status != 200 {
            return Ok(End::Status(answer.status));
        }
        let text = String::from_utf8_lossy(&answer.body);
        let right = text.contains(&format!("\"msg_{id}\"")) && (!streams || text.ends_with("{\"type\":\"message_stop\"}\n\n"));
        Ok(if right { End::Whole } else { End::Wrong(text.into_owned()) })
    }
}

struct Answer {
    status: u16,
    closes: bool,
    body: Vec<u8>,
}

fn read(connection: &mut BufReader<TcpStream>, leaves_after: Option<usize>) -> Result<Answer, Fault> {
    let mut line = String::new();
    if !matches!(connection.read_line(&mut line), Ok(some) if some > 0) {
        return Err(Fault::Closed);
    }
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok()).ok_or(Fault::Cut)?;
    let (mut length, mut closes) = (None, false);
    loop {
        line.clear();
        if !matches!(connection.read_line(&mut line), Ok(some) if some > 0) {
            return Err(Fault::Cut);
        }
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<usize>().ok(),
            "connection" => closes = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length, 0);
        connection.read_exact(&mut body).map_err(|_| Fault::Cut)?;
        return Ok(Answer { status, closes, body });
    }
    while leaves_after.is_none_or(|bytes| body.len() < bytes) {
        line.clear();
        connection.read_line(&mut line).map_err(|_| Fault::Cut)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| Fault::Cut)?;
        let mut piece = vec![0; size + 2];
        connection.read_exact(&mut piece).map_err(|_| Fault::Cut)?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(&piece[..size]);
    }
    Ok(Answer { status, closes, body })
}

/// How a stretch of calls went.
#[derive(Debug, Default)]
pub struct Stretch {
    pub from: usize,
    pub to: usize,
    pub ends: BTreeMap<End, usize>,
    pub reopened: usize,
    pub slowest: Duration,
    pub took: Duration,
    /// Calls that the upstream answered in full, and whose client has no whole answer.
    pub lost: Vec<(usize, End)>,
    /// Calls that came to the upstream more than once.
    pub doubled: Vec<usize>,
    /// Calls whose client has an answer that the upstream did not give in full.
    pub made_up: Vec<usize>,
}

impl Stretch {
    pub fn of(&self, end: &End) -> usize {
        self.ends.get(end).copied().unwrap_or(0)
    }

    pub fn calls(&self) -> usize {
        self.to - self.from
    }

    pub fn print(&self, name: &str) {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.calls() as f64 / self.took.as_secs_f64();
        println!(
            "{name}: {} calls in {:.1} s ({rate:.0}/s), ended {:?}, slowest {} ms, {} kept connections found closed, {} lost, {} doubled",
            self.calls(),
            self.took.as_secs_f64(),
            self.ends,
            self.slowest.as_millis(),
            self.reopened,
            self.lost.len(),
            self.doubled.len()
        );
    }
}

/// How many call, and how fast.
#[derive(Clone, Copy)]
pub struct Crowd {
    pub plain: usize,
    pub streaming: usize,
    /// The rest that one takes between two plain calls.
    pub rest: Duration,
}

/// Lets clients end, also when a test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets a crowd call while `meanwhile` happens; each call that began comes to its end.
pub fn call_while(crowd: Crowd, address: &str, upstream: &Upstream, next: &AtomicUsize, meanwhile: impl FnOnce(&AtomicUsize)) -> Stretch {
    let (stop, total) = (AtomicBool::new(false), Mutex::new((Stretch::default(), Vec::<(usize, End)>::new())));
    let (from, begun) = (next.load(Ordering::SeqCst), Instant::now());
    thread::scope(|scope| {
        for worker in 0..crowd.plain + crowd.streaming {
            let (stop, total) = (&stop, &total);
            let work = move || {
                let (mut client, mut own, mut slowest) = (Client::new(address), Vec::new(), Duration::ZERO);
                let way = if worker < crowd.plain { Way::Plain } else { Way::Stream };
                while !stop.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::SeqCst);
                    let asked = Instant::now();
                    let end = client.call(id, way, id.is_multiple_of(3));
                    let least = if way == Way::Stream { Duration::from_secs(1) } else { Duration::ZERO };
                    slowest = slowest.max(asked.elapsed().saturating_sub(least));
                    if end == End::Refused {
                        thread::sleep(Duration::from_millis(20));
                    }
                    own.push((id, end));
                    thread::sleep(crowd.rest);
                }
                let mut total = total.lock().unwrap();
                total.0.reopened += client.reopened;
                total.0.slowest = total.0.slowest.max(slowest);
                total.1.append(&mut own);
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).unwrap();
        }
        let _ends = Stops(&stop);
        meanwhile(next);
    });
    let (mut stretch, ends) = total.into_inner().unwrap();
    (stretch.from, stretch.to, stretch.took) = (from, next.load(Ordering::SeqCst), begun.elapsed());
    assert_eq!(ends.len(), stretch.calls(), "each call has its end");
    for (id, end) in ends {
        let (asked, answered) = (upstream.asked(id), upstream.answered(id));
        if asked > 1 {
            stretch.doubled.push(id);
        }
        if answered > 0 && end != End::Whole {
            stretch.lost.push((id, end.clone()));
        }
        if answered == 0 && end == End::Whole {
            stretch.made_up.push(id);
        }
        *stretch.ends.entry(end).or_default() += 1;
    }
    stretch
}
