//! Any text as a rule file: whatever it is, it is checked or refused, and what is accepted can be checked again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let found = paramedic_rules::check(&text, "fuzz.yml");
    assert!(found.file.is_some() || found.problems.iter().any(|problem| problem.is_error()), "refused without a reason");
    for problem in &found.problems {
        let _ = problem.to_string();
    }
});
