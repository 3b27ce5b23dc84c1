//! Any bytes as the body of a hook's post.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paramedic_collect::hook;
use paramedic_model::Timestamp;

fuzz_target!(|data: &[u8]| {
    let _ = hook::parse(data, Timestamp::from_secs(1_700_000_000));
});
