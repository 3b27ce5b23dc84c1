//! Agents that loop, time out or are refused: found, answered and well again, with real processes and a real gateway's part.

use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Home, until};
use crate::respond_case::{Case, Grouped, WITHIN, children_of, claim, lives, record, script, shortened, transcript};

/// A process that ignores being asked to end, with two children that do too.
fn stubborn(home: &Home) -> Grouped {
    let child = script(home.path(), "child.sh", "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do sleep 1; done\n");
    let text = format!("#!/bin/sh\ntrap '' TERM HUP INT\n{0} &\n{0} &\nwhile :; do sleep 1; done\n", child.display());
    Grouped::start(&mut Command::new(script(home.path(), "agent.sh", &text)))
}

/// The same call with the same result, so many times.
fn loops(session: &str, times: usize) -> Vec<Value> {
    let mut lines = vec![record(session, "p", "user", &json!("make the tests pass"))];
    for number in 0..times {
        let call = json!([{"type": "tool_use", "id": format!("t{number}"), "name": "Bash", "input": {"command": "cargo test"}}]);
        lines.push(record(session, &format!("a{number}"), "assistant", &call));
        let result = json!([{"type": "tool_result", "tool_use_id": format!("t{number}"), "content": "1 failed"}]);
        lines.push(record(session, &format!("r{number}"), "user", &result));
    }
    lines
}

#[test]
fn respond_a_stuck_agent_is_stopped_with_its_children_and_its_session_stays() {
    let home = Home::new();
    let mut agent = stubborn(&home);
    claim(&home, agent.pid(), "s-loop");
    let case = Case::up(home, &[shortened("stuck-agent", "10s")], &[], "[probe]\nhost = false\n");
    let children = until(WITHIN, || Some(children_of(agent.pid())).filter(|all| all.len() >= 2)).expect("it has children");
    transcript(&case.home, "s-loop", &loops("s-loop", 8));
    let run = case.run_began("stuck-agent");
    let score = case.likeliest(&run, "loop");
    assert!(score >= 0.9, "{score}");
    let shown = case.approve("ana", &run, "stop");
    assert!(shown["argv"].to_string().contains("s-loop"), "{shown:#}");
    let gone = until(WITHIN, || (agent.reap() && !children.iter().any(|pid| lives(*pid))).then_some(()));
    assert!(gone.is_some(), "{}", crate::respond_case::told(&case.run(&run)));
    case.done(&run);
    let incident = case.incident_over(&run);
    println!("{incident:#}\n{:#?}", case.instance.incidents());
    println!("{:#?}", case.instance.agents());
    for entry in case.recorded(&run, "stop", "ana") { println!("{entry}"); }
}
