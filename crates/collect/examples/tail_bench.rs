//! Follows a folder of transcripts until everything was read, says what that cost, and then what idling costs.
//!
//! `cargo run --release -p paramedic-collect --example tail_bench -- DIR [SECONDS]`: back-fill, then a second start with
//! the remembered offsets, then `SECONDS` of idling.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use paramedic_collect::config::TailSettings;
use paramedic_collect::tail::{Offset, Start, run};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
#[expect(clippy::unwrap_used, reason = "a measuring tool may stop at the first problem")]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap());
    let idle_s: u64 = std::env::args().nth(2).map_or(5, |text| text.parse().unwrap());
    let mut offsets: Vec<Offset> = Vec::new();
    for round in ["first start", "second start"] {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let cancel = CancellationToken::new();
        let (tx, mut rx) = mpsc::channel(4);
        let start = Start { roots: vec![folder.clone()], offsets: offsets.clone(), settings: TailSettings::default(), ..Start::default() };
        let task = tokio::spawn(run(start, tx, cancel.clone()));
        let mut events = 0;
        let mut held: std::collections::HashMap<String, Offset> = offsets.into_iter().map(|offset| (offset.file.clone(), offset)).collect();
        while let Some(batch) = rx.recv().await {
            events += batch.events.len();
            held.extend(batch.offsets.into_iter().map(|offset| (offset.file.clone(), offset)));
            if batch.caught_up {
                break;
            }
        }
        offsets = held.into_values().collect();
        say(&format!(
            "{round}: {events} events of {} files in {:.2?}, {:.2} CPU s, {} kB resident at most",
            offsets.len(),
            began.elapsed(),
            cpu_seconds() - cpu,
            resident_max_kb()
        ));
        let cpu = cpu_seconds();
        tokio::time::sleep(Duration::from_secs(idle_s)).await;
        say(&format!("{idle_s} s idle: {:.2} CPU s", cpu_seconds() - cpu));
        cancel.cancel();
        drop(rx);
        task.await.unwrap().unwrap();
    }
}

fn say(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
}

#[expect(clippy::unwrap_used, reason = "a measuring tool")]
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[expect(clippy::unwrap_used, reason = "a measuring tool")]
fn resident_max_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
