//! Writes one transcript in the form in which Claude Code writes it.

use serde_json::{Value, json};

/// Milliseconds from the beginning of the sample to `2026-01-01T00:00:00Z`, as wall time: it begins at noon.
const BASE_MS: u64 = 12 * 3600 * 1000;
const VERSION: &str = "2.1.42";

/// Seconds since the sample began.
pub(super) type Seconds = f64;

/// Tokens of one call.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_creation: u64,
}

/// A transcript being written.
pub(super) struct Session {
    pub id: String,
    agent: Option<String>,
    cwd: String,
    branch: String,
    model: &'static str,
    lines: Vec<String>,
    last_line: Option<String>,
    turn_began: Seconds,
    /// What the next call will find in the cache.
    context: u64,
    ids: Ids,
}

impl Session {
    pub(super) fn new(project: &str, branch: &str, model: &'static str) -> Self {
        let mut ids = Ids::new(project);
        Self {
            id: ids.uuid(),
            agent: None,
            cwd: format!("/home/{project}"),
            branch: branch.to_owned(),
            model,
            lines: Vec::new(),
            last_line: None,
            turn_began: 0.0,
            context: 14_200,
            ids,
        }
    }

    /// A sub-agent of this session; its transcript lies beside the session's.
    pub(super) fn subagent(&mut self, model: &'static str) -> Self {
        let mut ids = Ids::new(&self.ids.uuid());
        let agent = ids.hex(7);
        Self {
            id: self.id.clone(),
            agent: Some(agent),
            cwd: self.cwd.clone(),
            branch: self.branch.clone(),
            model,
            lines: Vec::new(),
            last_line: None,
            turn_began: 0.0,
            context: 8_100,
            ids,
        }
    }

    pub(super) fn cwd(&self) -> &str {
        &self.cwd
    }

    /// Where the transcript lies below `projects/`, and its text.
    pub(super) fn file(self) -> (String, String) {
        let folder: String = self.cwd.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = match &self.agent {
            Some(agent) => format!("projects/{folder}/{}/subagents/agent-{agent}.jsonl", self.id),
            None => format!("projects/{folder}/{}.jsonl", self.id),
        };
        (name, self.lines.join("\n") + "\n")
    }

    /// Somebody asks for something.
    pub(super) fn prompt(&mut self, at: Seconds, text: &str) {
        self.turn_began = at;
        self.line(at, json!({"type": "user", "message": {"role": "user", "content": text}}));
    }

    /// The model answers with text and hands the turn back.
    pub(super) fn answer(&mut self, at: Seconds, text: &str) {
        let usage = self.usage(text.len() as u64 / 3 + 60);
        self.message(at, &json!({"type": "text", "text": text}), "end_turn", usage);
        let duration_ms = ((at - self.turn_began) * 1000.0) as u64;
        if self.agent.is_none() {
            self.line(at + 0.05, json!({"type": "system", "subtype": "turn_duration", "durationMs": duration_ms, "isMeta": false}));
        }
    }

    /// The model calls a tool; gives the call's id.
    pub(super) fn call(&mut self, at: Seconds, tool: &str, input: Value) -> String {
        let id = format!("toolu_01{}", self.ids.word(22));
        let usage = self.usage(140 + input.to_string().len() as u64 / 3);
        self.message(at, &json!({"type": "tool_use", "id": id, "name": tool, "input": input}), "tool_use", usage);
        id
    }

    pub(super) fn result(&mut self, at: Seconds, call: &str, content: &str, failed: bool) {
        let block = json!({"tool_use_id": call, "type": "tool_result", "content": content, "is_error": failed});
        let rest = if failed {
            Value::from(format!("Error: {content}"))
        } else {
            json!({"stdout": content, "stderr": "", "interrupted": false, "isImage": false})
        };
        self.context += content.len() as u64 / 3;
        self.line(at, json!({"type": "user", "message": {"role": "user", "content": [block]}, "toolUseResult": rest}));
    }

    /// A call and its result, some seconds apart.
    pub(super) fn work(&mut self, at: Seconds, tool: &str, input: Value, takes: Seconds, output: &str) {
        let call = self.call(at, tool, input);
        self.result(at + takes, &call, output, false);
    }

    /// The model API is overloaded and the client will try again.
    pub(super) fn retry(&mut self, at: Seconds, attempt: u32, delay_ms: f64) {
        let request = format!("req_01{}", self.ids.word(22));
        let body = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": request});
        self.line(
            at,
            json!({
                "type": "system", "subtype": "api_error", "level": "error",
                "error": {"status": 529, "headers": {"content-type": "application/json", "x-should-retry": "true", "request-id": request}, "requestID": request, "error": body},
                "retryInMs": delay_ms, "retryAttempt": attempt, "maxRetries": 10
            }),
        );
    }

    /// A burst of retries with the client's own growing delays; gives the time of the next try.
    pub(super) fn retries(&mut self, begin: Seconds, count: u32) -> Seconds {
        const DELAYS_MS: [f64; 10] = [530.1, 1104.6, 2213.9, 4307.2, 8841.0, 17_920.5, 33_105.8, 36_440.2, 32_870.9, 34_016.3];
        let mut at = begin;
        for (attempt, delay_ms) in (1..).zip(DELAYS_MS.iter().take(count as usize)) {
            self.retry(at, attempt, *delay_ms);
            // The next try needs about two seconds to be refused.
            at += delay_ms / 1000.0 + 1.9;
        }
        at
    }

    /// A call failed for good: the client's own message takes the place of an answer.
    pub(super) fn failure(&mut self, at: Seconds, status: u16, error: &str, text: &str) {
        let nothing = json!({"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
        let message = json!({
            "id": self.ids.uuid(), "model": "<synthetic>", "role": "assistant", "stop_reason": "stop_sequence", "stop_sequence": "",
            "type": "message", "usage": nothing, "content": [{"type": "text", "text": text}]
        });
        self.line(
            at,
            json!({"type": "assistant", "message": message, "error": error, "isApiErrorMessage": true, "apiErrorStatus": status}),
        );
    }

    fn usage(&mut self, output: u64) -> Tokens {
        let created = 300 + output + self.ids.number(900);
        let tokens = Tokens { input: 3 + self.ids.number(9), output, cache_read: self.context, cache_creation: created };
        self.context += created;
        tokens
    }

    fn message(&mut self, at: Seconds, block: &Value, stop_reason: &str, tokens: Tokens) {
        let message = json!({
            "model": self.model, "id": format!("msg_01{}", self.ids.word(22)), "type": "message", "role": "assistant", "content": [block],
            "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {
                "input_tokens": tokens.input, "cache_creation_input_tokens": tokens.cache_creation,
                "cache_read_input_tokens": tokens.cache_read, "output_tokens": tokens.output, "service_tier": "standard"
            }
        });
        let request = format!("req_01{}", self.ids.word(22));
        self.line(at, json!({"type": "assistant", "message": message, "requestId": request}));
    }

    /// Adds the fields that every line has.
    fn line(&mut self, at: Seconds, own: Value) {
        let uuid = self.ids.uuid();
        let mut line = json!({
            "parentUuid": self.last_line, "isSidechain": self.agent.is_some(), "userType": "external", "cwd": self.cwd,
            "sessionId": self.id, "version": VERSION, "gitBranch": self.branch
        });
        if let Value::Object(fields) = &mut line {
            if let Some(agent) = &self.agent {
                fields.insert("agentId".to_owned(), Value::from(agent.as_str()));
            }
            if let Value::Object(own) = own {
                fields.extend(own);
            }
            fields.insert("uuid".to_owned(), Value::from(uuid.as_str()));
            fields.insert("timestamp".to_owned(), Value::from(timestamp(at)));
        }
        self.lines.push(line.to_string());
        self.last_line = Some(uuid);
    }
}

/// The sample lasts minutes, so only the time of day changes.
pub(super) fn timestamp(at: Seconds) -> String {
    let ms = BASE_MS + (at * 1000.0).round() as u64;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("2026-01-01T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
}

/// Ids that look random and are the same every time (splitmix64).
struct Ids(u64);

impl Ids {
    fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn number(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    fn hex(&mut self, digits: usize) -> String {
        format!("{:016x}", self.next())[..digits].to_owned()
    }

    fn word(&mut self, letters: usize) -> String {
        const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        (0..letters).map(|_| ALPHABET[self.number(ALPHABET.len() as u64) as usize] as char).collect()
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let version = high & 0xfff | 0x4000;
        let variant = low >> 48 & 0x3fff | 0x8000;
        format!("{:08x}-{:04x}-{version:04x}-{variant:04x}-{:012x}", high >> 32, high >> 16 & 0xffff, low & 0xffff_ffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_at_noon_and_ids_are_the_same_every_time() {
        assert_eq!(timestamp(0.0), "2026-01-01T12:00:00.000Z");
        assert_eq!(timestamp(372.25), "2026-01-01T12:06:12.250Z");
        let (mut one, mut two) = (Ids::new("x"), Ids::new("x"));
        assert_eq!(one.uuid(), two.uuid());
        assert_eq!(one.uuid().len(), 36);
        assert_eq!(one.word(22).len(), 22);
    }
}
