//! The store and the query engine behind just enough HTTP to be measured beside others: `serve ADDRESS FOLDER`.
//!
//! `POST /api/v1/write` takes remote write 1.0, `GET /api/v1/query` answers as Prometheus does. `POST /rules?time=` takes
//! one expression a line and answers with the milliseconds that evaluating them one after the other took.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use paramedic_model::SystemClock;
use paramedic_promql::{Engine, Point, SampleValue, Value};
use paramedic_samples::{Key, Sample, Samples, Settings};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (address, folder) = (arguments.next().ok_or("no address")?, arguments.next().ok_or("no folder")?);
    let store = Samples::open(Path::new(&folder), Settings { upkeep_interval_s: 1, ..Settings::default() }, Arc::new(SystemClock))?;
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, store) = (stream?, store.clone());
        std::thread::spawn(move || serve(&stream, &store).map_err(|err| eprintln!("{err}")));
    }
    Ok(())
}

fn serve(stream: &TcpStream, store: &Samples) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(256 * 1024, stream);
    let mut output = stream;
    loop {
        let mut request = String::new();
        if input.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let path = request.split(' ').nth(1).unwrap_or("");
        let answer = match path.split_once('?') {
            Some(("/rules", parameters)) => rules(store, parameter(parameters, "time").parse()?, &String::from_utf8(body)?)?,
            Some((_, parameters)) => query(store, parameters)?,
            None => {
                write_samples(store, &snap::raw::Decoder::new().decompress_vec(&body)?)?;
                String::new()
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        output.write_all((head + &answer).as_bytes())?;
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
            bytes.push(u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?'));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parameter<'a>(parameters: &'a str, name: &str) -> &'a str {
    parameters.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
}

fn rules(store: &Samples, at: f64, text: &str) -> Result<String, Failure> {
    let engine = Engine::default();
    let rules = text.lines().map(|line| engine.parse(line)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    for rule in &rules {
        engine.instant_expr(store, rule, (at * 1e3) as i64, None)?;
    }
    Ok((begun.elapsed().as_secs_f64() * 1e3).to_string())
}

fn query(store: &Samples, parameters: &str) -> Result<String, Failure> {
    let (expression, at) = (decoded(parameter(parameters, "query")), parameter(parameters, "time").parse::<f64>().unwrap_or(0.0));
    let answer = Engine::default().instant(store, &expression, (at * 1e3) as i64)?;
    let mut text = "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[".to_owned();
    if let Value::Vector(vector) = answer.value {
        for (number, sample) in vector.iter().enumerate() {
            text.push_str(if number > 0 { ",{\"metric\":{" } else { "{\"metric\":{" });
            for (number, label) in sample.labels.iter().enumerate() {
                write!(text, "{}{:?}:{:?}", if number > 0 { "," } else { "" }, label.name, label.value)?;
            }
            let value = match &sample.value {
                Point::Float(value) => *value,
                Point::Histogram(_) => f64::NAN,
            };
            write!(text, "}},\"value\":[{at},\"{value}\"]}}")?;
        }
    }
    text.push_str("]}}");
    Ok(text)
}

/// A field of a message in protobuf: its number, and its bytes or its number's eight bytes.
fn fields<'a>(mut rest: &'a [u8], mut each: impl FnMut(u64, &'a [u8], u64) -> Result<(), Failure>) -> Result<(), Failure> {
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => each(tag >> 3, &[], varint(&mut rest)?)?,
            1 => {
                let (bytes, after) = rest.split_first_chunk::<8>().ok_or("short")?;
                rest = after;
                each(tag >> 3, &[], u64::from_le_bytes(*bytes))?;
            }
            2 => {
                let length = varint(&mut rest)? as usize;
                let (bytes, after) = rest.split_at_checked(length).ok_or("short")?;
                rest = after;
                each(tag >> 3, bytes, 0)?;
            }
            _ => return Err("unknown wire type".into()),
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, Failure> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first().ok_or("short")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(value);
        }
        shift += 7;
        if shift > 63 {
            return Err("a number is too long".into());
        }
    }
}

fn write_samples(store: &Samples, request: &[u8]) -> Result<(), Failure> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut found: Vec<(std::ops::Range<usize>, i64, f64)> = Vec::new();
    fields(request, |_, series, _| {
        let first = pairs.len();
        let mut samples: [(i64, f64); 1] = [(0, 0.0)];
        fields(series, |number, bytes, _| {
            if number == 1 {
                let mut pair = ("", "");
                fields(bytes, |number, bytes, _| {
                    let text = std::str::from_utf8(bytes)?;
                    if number == 1 {
                        pair.0 = text
                    } else {
                        pair.1 = text
                    }
                    Ok(())
                })?;
                pairs.push(pair);
                return Ok(());
            }
            fields(bytes, |number, _, value| {
                if number == 1 {
                    samples[0].1 = f64::from_bits(value)
                } else {
                    samples[0].0 = value as i64
                }
                Ok(())
            })
        })?;
        found.extend(samples.map(|(time, value)| (first..pairs.len(), time, value)));
        Ok(())
    })?;
    let sample = |(range, time, value): &(std::ops::Range<usize>, i64, f64)| Sample {
        series: Key::Pairs(&pairs[range.clone()]),
        time: *time,
        value: SampleValue::Float(*value),
    };
    store.append(&found.iter().map(sample).collect::<Vec<_>>())?;
    Ok(())
}
