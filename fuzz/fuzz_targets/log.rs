//! Any bytes as log lines, with and without their text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paramedic_collect::log::{Options, Parser};
use paramedic_model::Timestamp;

fuzz_target!(|data: &[u8]| {
    for capture_text in [false, true] {
        let mut parser = Parser::new(Options { capture_text, agent: None });
        let mut events = Vec::new();
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            parser.feed(line, Timestamp::from_secs(1_700_000_000), &mut events);
        }
        parser.flush(&mut events);
        for event in events {
            // What is handed on must be storable.
            let _ = format!("{event:?}");
        }
    }
});
