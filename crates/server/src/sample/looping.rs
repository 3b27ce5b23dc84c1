//! An agent of the sample that is a real process: it runs the same failing test for ever, until somebody stops it.
//!
//! What it does is what a looping agent does as far as anybody outside can see: it lives, it says so in its session file, and
//! its transcript grows by the same call with the same result. Stopping it stops that, which makes it good for trying a runbook.

use std::path::Path;
use std::time::Duration;

use paramedic_model::Clock;
use serde_json::json;

use super::{SampleError, append};

/// Its session, and where it works.
pub const SESSION: &str = "5c1de0f2-90d7-4c0f-8a4e-2b7a6d1f3e77";
const FOLDER: &str = "/home/nora/pier";
const FILE: &str = "projects/-home-nora-pier/5c1de0f2-90d7-4c0f-8a4e-2b7a6d1f3e77.jsonl";
const MODEL: &str = "claude-sonnet-4-5-20250929";
const FAILURE: &str =
    "Exit code 1\nFAILED tests/test_berth.py::test_two_ships_one_berth - AssertionError: assert 2 == 1\n1 failed, 7 passed";
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(2);
/// Rounds after which even this agent gives up: an hour.
const ROUNDS_MAX: u32 = 1_800;

/// Writes the session file and the transcript of this process into a Claude Code folder, round after round.
pub fn run(dir: &Path, clock: &dyn Clock) -> Result<(), SampleError> {
    let pid = std::process::id();
    let claim = json!({"pid": pid, "sessionId": SESSION, "cwd": FOLDER, "startedAt": clock.now().as_millis(), "status": "busy"});
    append(&dir.join(format!("sessions/{pid}.json")), &claim.to_string())?;
    let mut last = line(
        dir,
        clock,
        None,
        "user",
        0,
        &json!({"role": "user", "content": "Two ships must not get the same berth. Make the test pass."}),
    )?;
    for round in 1..=ROUNDS_MAX {
        let call = format!("toolu_nora{round:08}");
        let asks = json!({
            "model": MODEL, "id": format!("msg_nora{round:08}"), "type": "message", "role": "assistant",
            "content": [{"type": "tool_use", "id": call, "name": "Bash", "input": {"command": "pytest tests/test_berth.py", "description": "Run the berth test"}}],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 9, "cache_creation_input_tokens": 310, "cache_read_input_tokens": 14_000 + round * 310, "output_tokens": 121, "service_tier": "standard"},
        });
        last = line(dir, clock, Some(&last), "assistant", round * 2, &asks)?;
        std::thread::sleep(ROUND / 2);
        let answers =
            json!({"role": "user", "content": [{"tool_use_id": call, "type": "tool_result", "content": FAILURE, "is_error": true}]});
        last = line(dir, clock, Some(&last), "user", round * 2 + 1, &answers)?;
        std::thread::sleep(ROUND / 2);
    }
    Ok(())
}

/// Adds one line to the transcript; the id of the line.
fn line(
    dir: &Path,
    clock: &dyn Clock,
    parent: Option<&str>,
    kind: &str,
    number: u32,
    message: &serde_json::Value,
) -> Result<String, SampleError> {
    let uuid = format!("0e0e0e0e-0000-4000-8000-{number:012}");
    let mut told = json!({
        "parentUuid": parent, "isSidechain": false, "userType": "external", "cwd": FOLDER, "sessionId": SESSION, "version": "2.1.42",
        "gitBranch": "berths", "type": kind, "message": message, "uuid": uuid, "timestamp": clock.now().to_string(),
    });
    if kind == "assistant" {
        told["requestId"] = json!(format!("req_nora{number:08}"));
    } else if number > 0 {
        told["toolUseResult"] = json!(format!("Error: {FAILURE}"));
    }
    append(&dir.join(FILE), &told.to_string())?;
    Ok(uuid)
}
