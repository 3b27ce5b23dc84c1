//! Whether a name resolves: through the system's resolver, or by asking one server over UDP (RFC 1035).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use paramedic_model::Timestamp;
use tokio::net::UdpSocket;

use crate::config::DnsSettings;
use crate::error::{Failure, ProbeError};
use crate::plan::{Identity, Looking, Opened, Probe};
use crate::reading::Reading;
use crate::wire::{self, Place};

const RECORDS: &[(&str, u16)] = &[("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("MX", 15), ("TXT", 16), ("AAAA", 28), ("SRV", 33)];
const HEADER_BYTES: usize = 12;
/// The longest answer over UDP that is read; longer ones say that they are cut.
const ANSWER_BYTES_MAX: usize = 4_096;
const CLASS_INTERNET: u16 = 1;

pub(crate) fn open(settings: &DnsSettings) -> Result<Opened, ProbeError> {
    let target = || format!("dns target {}", settings.name);
    let record = settings.record.as_deref().unwrap_or("A").to_ascii_uppercase();
    let Some((_, code)) = RECORDS.iter().find(|(name, _)| *name == record) else {
        return Err(ProbeError::setting(target(), "record", format_args!("{record:?} is none of A, AAAA, CNAME, MX, NS, SOA, SRV, TXT")));
    };
    let question = question(&settings.name, *code).map_err(|reason| ProbeError::setting(target(), "name", reason))?;
    let server = match &settings.server {
        None if settings.record.is_some() => {
            return Err(ProbeError::setting(target(), "record", "needs a `server`: the system's resolver is asked for addresses only"));
        }
        None => None,
        Some(server) => match Place::parse(server, Some(53)) {
            Some(Place::Tcp { host, port }) => Some((host, port)),
            _ => return Err(ProbeError::setting(target(), "server", "is not `address[:port]`")),
        },
    };
    let instance = match &settings.server {
        Some(server) => format!("{}@{server}", settings.name),
        None => settings.name.clone(),
    };
    let identity = Identity { address: format!("{record} {instance}"), instance };
    let answers_min = settings.answers_min.unwrap_or(1);
    Ok((identity, Box::new(Dns { name: settings.name.clone(), question, server, answers_min })))
}

struct Dns {
    name: String,
    question: Vec<u8>,
    server: Option<(String, u16)>,
    answers_min: u16,
}

impl Probe for Dns {
    fn look<'a>(&'a mut self, _now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            let answers = match &self.server {
                None => {
                    let (addresses, took) = wire::resolve(&self.name, 0).await?;
                    reading.gauge("probe_dns_lookup_time_seconds", took.as_secs_f64());
                    u16::try_from(addresses.len()).unwrap_or(u16::MAX)
                }
                Some((host, port)) => self.ask(host, *port, reading).await?,
            };
            reading.gauge("probe_dns_answer_rrs", f64::from(answers));
            if answers < self.answers_min {
                return Err(Failure::new(format_args!("{answers} answers instead of at least {}", self.answers_min)));
            }
            Ok(())
        })
    }
}

impl Dns {
    async fn ask(&self, host: &str, port: u16, reading: &mut Reading) -> Result<u16, Failure> {
        let (addresses, _) = wire::resolve(host, port).await?;
        let server = addresses.first().copied().ok_or_else(|| Failure::new("no address of the server"))?;
        let own = if server.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let doing = |err: std::io::Error| Failure::of(&format!("ask {server}"), &err);
        // A socket that is connected takes answers of that server only.
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await.map_err(doing)?;
        socket.connect(server).await.map_err(doing)?;
        // The standard library's hasher begins with random bits, so that nobody outside can guess the id.
        let id = (RandomState::new().build_hasher().finish() & 0xffff) as u16;
        let begun = Instant::now();
        socket.send(&[&id.to_be_bytes()[..], &self.question[2..]].concat()).await.map_err(doing)?;
        let mut buffer = [0u8; ANSWER_BYTES_MAX];
        let answer = loop {
            let length = socket.recv(&mut buffer).await.map_err(doing)?;
            // What does not belong to the question is somebody else's.
            if let Some(answer) = Answer::parse(&buffer[..length], id, &self.question[HEADER_BYTES..]) {
                break answer;
            }
        };
        reading.gauge("probe_dns_lookup_time_seconds", begun.elapsed().as_secs_f64());
        reading.gauge("probe_dns_query_succeeded", f64::from(u8::from(answer.code == 0)));
        reading.gauge("probe_dns_authority_rrs", f64::from(answer.authorities));
        reading.gauge("probe_dns_additional_rrs", f64::from(answer.additionals));
        if answer.code != 0 {
            return Err(Failure::new(format_args!("the server answers {}", code_name(answer.code))));
        }
        Ok(answer.answers)
    }
}

/// The header's counts of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: u8,
    answers: u16,
    authorities: u16,
    additionals: u16,
}

impl Answer {
    /// `None` when it is no answer to this question.
    fn parse(bytes: &[u8], id: u16, question: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let is_response = bytes.get(2)? & 0x80 != 0;
        if word(0)? != id || !is_response {
            return None;
        }
        let answer = Self { code: bytes.get(3)? & 0x0f, answers: word(6)?, authorities: word(8)?, additionals: word(10)? };
        // A server that cannot read the question need not repeat it.
        let repeated = bytes.get(HEADER_BYTES..HEADER_BYTES + question.len());
        let is_same = repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(question));
        (is_same || (word(4)? == 0 && answer.code != 0)).then_some(answer)
    }
}

fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR: it could not read the question".to_owned(),
        2 => "SERVFAIL: it could not find out".to_owned(),
        3 => "NXDOMAIN: there is no such name".to_owned(),
        4 => "NOTIMP: it does not answer such questions".to_owned(),
        5 => "REFUSED: it does not answer us".to_owned(),
        other => format!("with code {other}"),
    }
}

/// A whole query with the id 0.
fn question(name: &str, record: u16) -> Result<Vec<u8>, String> {
    // Recursion is desired; one question.
    let mut out = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.') {
        let is_label = !label.is_empty() && label.len() <= 63 && label.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_label {
            return Err(format!("{label:?} is not a part of a name"));
        }
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    if name.len() > 253 {
        return Err("is longer than 253 bytes".to_owned());
    }
    out.push(0);
    out.extend(record.to_be_bytes());
    out.extend(CLASS_INTERNET.to_be_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_written_as_the_standard_says() {
        let written = question("a.example.", 28).unwrap();
        assert_eq!(written, b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x1c\0\x01");
        for name in ["", "a..b", &"x".repeat(64), "a b", &"abc.".repeat(80)] {
            assert!(question(name, 1).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = question("a.example", 1).unwrap();
        let mut reply = asked.clone();
        reply[..2].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(Answer::parse(&reply, 0x1234, &asked[12..]), None, "a question is no answer");
        reply[2] |= 0x80;
        reply[7] = 3;
        assert_eq!(Answer::parse(&reply, 0x1234, &asked[12..]).unwrap().answers, 3);
        assert_eq!(Answer::parse(&reply, 0x1235, &asked[12..]), None);
        assert_eq!(Answer::parse(&reply, 0x1234, &question("b.example", 1).unwrap()[12..]), None);
        reply[3] = 3;
        assert_eq!(Answer::parse(&reply, 0x1234, &asked[12..]).unwrap().code, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_an_answer_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Answer::parse(&bytes, 7, b"\x01a\0\0\x01\0\x01");
        }
    }
}
