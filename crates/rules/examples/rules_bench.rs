//! Measures one evaluation of a group: `rules_bench [SERIES] [RULES]`. Half of the rules record, half alert.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use paramedic_model::{AlertChange, ManualClock, Timestamp};
use paramedic_promql::Engine;
use paramedic_rules::{AlertSink, BoxFuture, LocalSource, Rules, Settings};
use paramedic_samples::Samples;

/// Counts what the journal would be told.
#[derive(Default)]
struct Journal(Mutex<usize>);

impl AlertSink for Journal {
    fn alerts(&self, changes: Vec<AlertChange>) -> BoxFuture<'_, ()> {
        if let Ok(mut told) = self.0.lock() {
            *told += changes.len();
        }
        Box::pin(async {})
    }
}

fn rules(count: usize) -> String {
    let mut text = "groups:\n- name: bench\n  interval: 15s\n  rules:\n".to_owned();
    for i in 0..count {
        let job = i % 100;
        text.push_str(&if i % 2 == 0 {
            format!("  - {{record: 'job:m:rate{i}', expr: 'sum by (x) (rate(m{{job=\"{job}\"}}[1m]))'}}\n")
        } else {
            format!("  - {{alert: A{i}, expr: 'sum by (x) (rate(m{{job=\"{job}\"}}[1m])) > {i}', annotations: {{s: '{{{{ $value | humanize }}}}'}}}}\n")
        });
    }
    text
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (series, count) = (args.next().unwrap_or(100_000), args.next().unwrap_or(1_000));
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_120)));
    let samples = Samples::open(dir.path(), paramedic_samples::Settings::default(), Arc::clone(&clock) as _)?;
    for i in 0..series {
        let (job, x, id) = ((i % 100).to_string(), (i / 100 % 10).to_string(), i.to_string());
        let reference = samples.series_ref_of(&[("__name__", "m"), ("id", &id), ("job", &job), ("x", &x)])?;
        let points: Vec<_> = (0..8).map(|step| (reference, (1_700_000_000 + step * 15) * 1_000, (step * i as i64 % 97) as f64)).collect();
        samples.append_refs(&points)?;
    }
    let journal = Arc::new(Journal::default());
    let source = Arc::new(LocalSource::new(Engine::default(), Arc::new(samples.clone())));
    let settings = Settings { pack: false, ..Settings::default() };
    let rules_of = Rules::new(settings, source, Arc::new(samples.clone()), Arc::clone(&journal) as _, clock);
    let begun = Instant::now();
    let loaded = rules_of.load_texts(vec![("bench.yml".to_owned(), rules(count))]).await;
    println!("{} rules loaded in {:?}", loaded.rules, begun.elapsed());
    for round in 0..5i64 {
        let begun = Instant::now();
        rules_of.evaluate(Timestamp::from_millis(1_700_000_105_000 + round * 1_000)).await;
        println!("{count} rules over {series} series in {:?}", begun.elapsed());
    }
    println!("{} changes told", journal.0.lock().map(|told| *told).unwrap_or_default());
    Ok(())
}
