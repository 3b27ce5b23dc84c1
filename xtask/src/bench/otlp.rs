//! OTLP log records over HTTP, to disk: what one CPU second of the server takes in.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;

use super::http::Connection;
use super::{folder, release_program, startup};

const RECORDS_PER_BODY: u64 = 1000;
const SENDERS: u64 = 4;
/// 2026-01-01T12:00:00Z in nanoseconds.
const BASE_NS: u64 = 1_767_268_800_000_000_000;

pub(super) fn run(records: u64) -> Result<String> {
    let program = release_program()?;
    let root = folder()?.join("otlp");
    fs::remove_dir_all(&root).ok();
    let data = root.join("data");
    fs::create_dir_all(&data)?;
    let bodies: Vec<Vec<u8>> = (0..records / RECORDS_PER_BODY).map(body).collect();
    let megabytes = bodies.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    let running = startup::start(&program, &data, &root.join("no-sessions"))?;
    let address = running.address("otlp_http")?;
    let before = process::cpu_s(running.pid())?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let share = bodies.iter().skip(sender as usize).step_by(SENDERS as usize);
                let address = &address;
                scope.spawn(move || send(address, share))
            })
            .collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| anyhow::anyhow!("a sender died"))?)
    })?;
    let wall_s = begin.elapsed().as_secs_f64();
    let accepted_cpu_s = process::cpu_s(running.pid())? - before;
    let index_cpu_s = process::thread_cpu_s(running.pid(), "telemetry-index")?;
    // The full-text index may follow behind; its cost is told apart.
    thread::sleep(Duration::from_secs(15));
    let total_cpu_s = process::cpu_s(running.pid())? - before;
    let rss = process::memory_mb(running.pid(), "VmHWM").context("the process is gone")?;
    running.child.terminate()?;
    let sent = records / RECORDS_PER_BODY * RECORDS_PER_BODY;
    let per_cpu = |cpu_s: f64| sent as f64 / cpu_s;
    Ok(format!(
        "{sent} log records ({megabytes:.0} MB of protobuf) in bodies of {RECORDS_PER_BODY}, {SENDERS} connections, each acknowledged when durable.\n\n\
         | what | measured |\n|---|---|\n\
         | records a second by the clock | {:.0} |\n\
         | records a CPU second of the server, until acknowledged, the index's own thread left out | {:.0} |\n\
         | CPU seconds that the index took meanwhile | {index_cpu_s:.2} |\n\
         | records a CPU second of the server, index included | {:.0} |\n\
         | largest resident size, MB | {rss:.0} |\n",
        sent as f64 / wall_s,
        per_cpu(accepted_cpu_s - index_cpu_s),
        per_cpu(total_cpu_s),
    ))
}

fn send<'a>(address: &str, bodies: impl Iterator<Item = &'a Vec<u8>>) -> Result<()> {
    let mut connection = Connection::open(address)?;
    for body in bodies {
        let (status, answer) = connection.post("/v1/logs", "application/x-protobuf", body)?;
        ensure!(status == 200, "the receiver answered {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// An `ExportLogsServiceRequest` as a service's SDK sends it: a resource, a scope and so many records with attributes.
fn body(number: u64) -> Vec<u8> {
    let mut scope_logs = message(1, &[text(1, "orders.worker")]);
    for record in 0..RECORDS_PER_BODY {
        let sequence = number * RECORDS_PER_BODY + record;
        let at = BASE_NS + sequence * 1_000_000;
        let mut one = fixed64(1, at);
        one.extend(fixed64(11, at + 500));
        one.extend(varint_field(2, 9));
        one.extend(text(3, "INFO"));
        one.extend(message(
            5,
            &[text(1, &format!("order {sequence} accepted after {} ms, stock reserved in warehouse {}", sequence % 311, sequence % 7))],
        ));
        for (key, value) in [
            ("order.id", format!("ord-{sequence}")),
            ("user.id", format!("user-{}", sequence % 1000)),
            ("event.name", "order_accepted".to_owned()),
        ] {
            one.extend(attribute(6, key, &value));
        }
        one.extend(bytes(9, &(u128::from(sequence) << 64 | 0x1234_5678).to_be_bytes()));
        one.extend(bytes(10, &sequence.to_be_bytes()));
        scope_logs.extend(bytes(2, &one));
    }
    let mut resource = attribute(1, "service.name", "orders");
    resource.extend(attribute(1, "service.instance.id", &format!("replica-{}", number % 8)));
    let mut resource_logs = bytes(1, &resource);
    resource_logs.extend(bytes(2, &scope_logs));
    bytes(1, &resource_logs)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(value, &mut out);
    out
}

fn fixed64(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 1, &mut out);
    out.extend(value.to_le_bytes());
    out
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 8);
    varint(field << 3 | 2, &mut out);
    varint(content.len() as u64, &mut out);
    out.extend(content);
    out
}

fn text(field: u64, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}

fn message(field: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, &fields.concat())
}

fn attribute(field: u64, key: &str, value: &str) -> Vec<u8> {
    message(field, &[text(1, key), message(2, &[text(1, value)])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_tag_a_length_and_the_content() {
        assert_eq!(text(1, "hi"), [0x0a, 2, b'h', b'i']);
        assert_eq!(varint_field(2, 300), [0x10, 0xac, 0x02]);
        assert_eq!(fixed64(1, 1), [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(1, &[0; 200])[..3], [0x0a, 0xc8, 0x01]);
    }
}
