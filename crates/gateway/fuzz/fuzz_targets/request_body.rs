//! Bodies of requests: whatever the bytes are, they are read without a panic, and what is changed in them stays readable.

#![no_main]

use hyper::body::Bytes;
use libfuzzer_sys::fuzz_target;
use paramedic_gateway::body::{
    Limits, Prefixes, Ratio, Shortening, apply, cap_max_tokens, conversation, mark_for_cache, read, set_model, shorten_history,
};

fuzz_target!(|bytes: &[u8]| {
    let facts = read(bytes);
    let ratio = Ratio::exact(1.0);
    let _ = (facts.user(bytes), facts.tokens(ratio), conversation(bytes, &facts, None, None));
    let _ = Prefixes::default().share(1, bytes, &facts);
    let limit = bytes.len() as u64 % 7;
    let limits = Limits { messages_max: Some(limit), tokens_max: Some(limit * 50), digest: limit % 2 == 0 };
    let shortened = match shorten_history(bytes, &facts, limits, ratio) {
        Shortening::Shortened(shortened) => Some(shortened.edits),
        Shortening::Fits | Shortening::Stuck(_) => None,
    };
    let made = [
        set_model(bytes, &facts, "other \"model\""),
        cap_max_tokens(bytes, &facts, limit).map(|capped| capped.edits),
        mark_for_cache(bytes, &facts, ratio).map(|marked| marked.edits),
        shortened,
    ];
    for edits in made.into_iter().flatten() {
        assert!(facts.valid);
        let edited = apply(&Bytes::copy_from_slice(bytes), &edits).expect("edits fit the body that they were made for");
        assert!(read(&edited).valid);
    }
});
