//! Any bytes as the body of a remote_write request: 1.0 or 2.0, as they are or compressed for us.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use paramedic_model::{ManualClock, Timestamp};
use paramedic_remote::metrics::ReceiveMetrics;
use paramedic_remote::{Headers, ReceiveSettings, Receiver};
use paramedic_samples::{Samples, Settings};

static RECEIVER: LazyLock<Receiver> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("paramedic-fuzz-{}", std::process::id()));
    let settings = Settings { series_max: 1_000, checkpoint_bytes: 1024 * 1024, upkeep_interval_s: 5, ..Settings::default() };
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
    let samples = Samples::open(&dir, settings, clock).expect("a folder for the store");
    let limits = ReceiveSettings { decompressed_bytes_max: 1024 * 1024, series_refs_max: 1_000, ..ReceiveSettings::default() };
    Receiver::new(limits, Arc::new(samples), None, ReceiveMetrics::default())
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let content_type = Some(if mode & 1 == 0 { "application/x-protobuf" } else { v2 });
    let headers = Headers { content_type, content_encoding: Some("snappy") };
    let answer = if mode & 2 == 0 {
        RECEIVER.handle(headers, &snap::raw::Encoder::new().compress_vec(rest).expect("a block"))
    } else {
        RECEIVER.handle(headers, rest)
    };
    assert!([204, 400, 413].contains(&answer.status), "{} {}", answer.status, answer.body);
});
