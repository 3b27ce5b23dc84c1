//! Any bytes as the body of an OTLP request, as JSON and as protobuf, for each signal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paramedic_collect::otlp::{Encoding, Signal, decode};
use paramedic_model::Timestamp;

fuzz_target!(|data: &[u8]| {
    for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let _ = decode(signal, encoding, data, Timestamp::from_secs(1_700_000_000), 10_000);
        }
    }
});
