//! What goes through the gateway arrives as it was sent: a call of Claude Code's is sent directly and through the gateway, and
//! both the API and the client see the same.

use axum::http::HeaderMap;
use serde_json::Value;

use super::scene::Scene;
use super::upstream::{Reply, Request, error, text};
use crate::http::{self, Answer};
use crate::{skip, tools};

/// Headers that belong to one connection, or name its other end.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "transfer-encoding", "te", "host", "content-length"];

/// Names of people that are meant for the gateway, and go no further.
const OURS: &str = "x-paramedic-";

fn headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let all = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut all: Vec<_> = all.filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()) && !name.starts_with(OURS)).collect();
    all.sort();
    all
}

/// Without what changes from one answer to the next.
fn answer_headers(answer: &Answer) -> Vec<String> {
    let left_out = ["date", "request-id"];
    let lines = answer.head.lines().skip(1);
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = lines
        .filter(|line| !left_out.contains(&name(line).as_str()) && !HOP_BY_HOP.contains(&name(line).as_str()))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// The same without what the API counts up.
fn unnumbered(answer: &Answer) -> String {
    let mut text = answer.text();
    for (begin, digits) in [("msg_fake", 4), ("req_fake", 4)] {
        while let Some(at) = text.find(&format!("{begin}0")) {
            text.replace_range(at..at + begin.len() + digits, "an-id");
        }
    }
    text
}

/// A recorded request, sent once more to this address.
fn send(address: &str, request: &Request, body: &[u8]) -> Answer {
    let sent: Vec<(&str, &str)> = request
        .headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    http::request(address, "POST", &request.path, &sent, body).unwrap()
}

#[test]
fn a_call_of_claude_code_arrives_byte_for_byte_and_so_does_its_answer() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    // The usage differs from call to call, so the answer is fixed by the request's own header.
    let scene = Scene::new("", |request| match request.header("x-please") {
        Some("refuse") => error(529, "overloaded_error", &[("retry-after", "7"), ("x-should-retry", "true")]),
        Some(_) => {
            Reply::Plain(serde_json::json!({"type": "message", "model": "claude-opus-5-5", "content": [], "of": "the future \u{1f9ea}"}))
        }
        None => text("hi"),
    });
    let direct = scene.claude_command(&program, "ana", &scene.api.url());
    let run = scene.finish(direct);
    assert_eq!(run.code, Some(0), "{:#?}", run.lines);
    let mut recorded = scene.api.inference()[0].clone();
    assert!(recorded.body.len() > 20_000, "{} bytes are no session's beginning", recorded.body.len());
    // What a reader of JSON would lose: blanks, the order of keys, numbers beyond a float, fields of the future, keys twice.
    let odd = String::from_utf8(recorded.body.to_vec()).unwrap();
    let odd = format!("{{ \"of_the_future\" : {{\"n\":1.00,\"n\":9007199254740993}},\t{}\n", odd.trim_start().strip_prefix('{').unwrap());
    for please in [None, Some("refuse"), Some("whole")] {
        recorded.headers.remove("x-please");
        if let Some(please) = please {
            recorded.headers.insert("x-please", please.parse().unwrap());
        }
        for body in [recorded.body.as_ref(), odd.as_bytes()] {
            let directly = send(&scene.api.address(), &recorded, body);
            let through = send(&scene.instance.gateway(), &recorded, body);
            check_same(&scene, body, please.is_some(), (&directly, &through));
        }
    }
}

fn check_same(scene: &Scene, body: &[u8], has_same_usage: bool, (directly, through): (&Answer, &Answer)) {
    let requests = scene.api.inference();
    let [.., first, second] = &requests[..] else { panic!("{} requests", requests.len()) };
    assert!(first.body == body && second.body == body, "the body was changed");
    assert_eq!(headers(&first.headers), headers(&second.headers));
    assert!(first.headers.contains_key("x-paramedic-user") && !second.headers.contains_key("x-paramedic-user"));
    assert_eq!(first.path, second.path);
    assert_eq!(directly.status, through.status);
    assert_eq!(answer_headers(directly), answer_headers(through));
    if has_same_usage {
        assert_eq!(unnumbered(directly), unnumbered(through));
    } else {
        // Event by event, but for what counts up.
        let names =
            |answer: &Answer| answer.text().lines().filter(|line| line.starts_with("event:")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(directly), names(through));
        let texts = |answer: &Answer| answer.text().lines().filter_map(delta).collect::<Vec<_>>();
        assert_eq!(texts(directly), texts(through));
    }
}

fn delta(line: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
    (event["type"] == "content_block_delta").then(|| event["delta"].clone())
}
