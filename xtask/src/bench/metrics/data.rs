//! The series that are measured with, and how they travel: remote write 1.0.

use anyhow::Result;

/// Milliseconds between two samples of a series.
pub(super) const EVERY_MS: i64 = 15_000;
/// Series in one body.
const BODY_SERIES: u64 = 2_000;
/// Buckets of classic histograms beside the plain series.
pub(super) const BUCKETS: u64 = 10_000;
const BOUNDS: [&str; 10] = ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// The bodies that carry one sample of every series.
pub(super) fn bodies(series: u64, time_ms: i64) -> Result<Vec<Vec<u8>>> {
    let total = series + BUCKETS;
    (0..total.div_ceil(BODY_SERIES))
        .map(|number| {
            let mut raw = Vec::with_capacity(256 * 1024);
            for at in number * BODY_SERIES..total.min((number + 1) * BODY_SERIES) {
                let one = if at < series { counter(at, time_ms) } else { bucket(at - series, time_ms) };
                field(1, &one, &mut raw);
            }
            Ok(snap::raw::Encoder::new().compress_vec(&raw)?)
        })
        .collect()
}

/// A hundred groups of ten shards; every series has an instance of its own.
fn counter(at: u64, time_ms: i64) -> Vec<u8> {
    let step = time_ms / EVERY_MS;
    // Exact integers with an uneven growth, as requests and bytes have.
    let value = step * (at as i64 % 40 + 1) * 3 + (at as i64 * 7_919 + step * 104_729) % 17;
    let (x, shard, instance) = (format!("x{:02}", at % 100), format!("s{}", at / 100 % 10), format!("host-{at:06}"));
    time_series(&[("__name__", "m"), ("instance", &instance), ("job", "bench"), ("shard", &shard), ("x", &x)], time_ms, value as f64)
}

fn bucket(at: u64, time_ms: i64) -> Vec<u8> {
    let (bound, of) = (at % 10, at / 10);
    let value = (time_ms / EVERY_MS) * (bound as i64 + 1) * (of as i64 % 7 + 1);
    let (instance, x) = (format!("host-{:03}", of / 100), format!("x{:02}", of % 100));
    let labels = [("__name__", "h_bucket"), ("instance", &*instance), ("job", "bench"), ("le", BOUNDS[bound as usize]), ("x", &*x)];
    time_series(&labels, time_ms, value as f64)
}

/// A body with one sample of one series.
pub(in crate::bench) fn one_series(name: &str, label: &str, label_value: &str, time_ms: i64, value: f64) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    field(1, &time_series(&[("__name__", name), (label, label_value)], time_ms, value), &mut raw);
    Ok(snap::raw::Encoder::new().compress_vec(&raw)?)
}

fn time_series(labels: &[(&str, &str)], time_ms: i64, value: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    let mut one = Vec::with_capacity(64);
    for (name, value) in labels {
        one.clear();
        field(1, name.as_bytes(), &mut one);
        field(2, value.as_bytes(), &mut one);
        field(1, &one, &mut out);
    }
    one.clear();
    one.push(1 << 3 | 1);
    one.extend_from_slice(&value.to_le_bytes());
    one.push(2 << 3);
    varint(time_ms as u64, &mut one);
    field(2, &one, &mut out);
    out
}

fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A thousand rules in each of three groups, each rule over the series of one group and shard: alerts that never hold,
/// alerts that all fire, and recorded series.
pub(super) fn rules() -> String {
    let mut text = "groups:\n".to_owned();
    for (group, kind, condition) in [("quiet", "alert", " > 1e9"), ("firing", "alert", " > 0"), ("recording", "record", "")] {
        text.push_str(&format!("- name: {group}\n  interval: 5s\n  rules:\n"));
        for rule in 0..1_000 {
            let expression = format!("sum by (x) (rate(m{{x=\"x{:02}\",shard=\"s{}\"}}[1m])){condition}", rule % 100, rule / 100);
            let name = if kind == "alert" { format!("Rule{rule}") } else { format!("x:m:rate1m_{rule}") };
            text.push_str(&format!("  - {{{kind}: '{name}', expr: '{expression}'}}\n"));
        }
    }
    text
}
