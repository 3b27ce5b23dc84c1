//! Enough of the transcript format to run recorded sessions through the detectors: whole-JSON, slow, tests only.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, SessionId, Source, Timestamp, ToolOutcome, Usage};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// The recorded sessions, if this machine has them.
pub(crate) fn recorded() -> Option<PathBuf> {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
        .join("transcripts");
    if data.is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no recorded sessions at {} (set PARAMEDIC_SHARED_DATA)", data.display());
    None
}

pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|ext| ext == "jsonl") {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

/// All events of one file, each told once except for the growing news about a model message.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).expect("readable");
    let mut reader = Reader::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(line) = serde_json::from_slice::<Value>(line) {
            reader.line(&line);
        }
    }
    reader.out
}

#[derive(Default)]
struct Reader {
    out: Vec<Event>,
    seen: HashSet<String>,
    tools: HashMap<String, String>,
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

impl Reader {
    fn line(&mut self, line: &Value) {
        if line["uuid"].as_str().is_some_and(|uuid| !self.seen.insert(uuid.to_owned())) {
            return;
        }
        let Some(at) = line["timestamp"].as_str().and_then(Timestamp::parse) else { return };
        match line["type"].as_str().unwrap_or_default() {
            "assistant" if line["isApiErrorMessage"] == true => self.failed(line, at),
            "assistant" => self.assistant(line, at, line["agentId"].as_str()),
            "user" => self.user(line, at, line["agentId"].as_str()),
            "system" => self.system(line, at),
            "progress" => self.progress(line, at),
            _ => {}
        }
    }

    fn push(&mut self, line: &Value, at: Timestamp, sub: Option<&str>, text: &str, fact: Fact) {
        let mut event = Event::new(at, Source::Transcript, line["type"].as_str().unwrap_or_default());
        let session = SessionId::from(line["sessionId"].as_str().unwrap_or("?"));
        event.agent = Some(sub.map_or_else(|| AgentId::of_session(&session), |sub| AgentId::of_subagent(&session, sub)));
        event.session = Some(session);
        event.correlation.request = line["requestId"].as_str().map(Into::into);
        event.text = paramedic_model::text::head(text, 400).into();
        event.fact = fact;
        self.out.push(event);
    }

    fn assistant(&mut self, line: &Value, at: Timestamp, sub: Option<&str>) {
        let message = &line["message"];
        let count = |key: &str| message["usage"][key].as_u64().unwrap_or(0);
        let usage = Usage {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            cache_read_tokens: count("cache_read_input_tokens"),
            cache_creation_tokens: count("cache_creation_input_tokens"),
            cache_creation_1h_tokens: message["usage"]["cache_creation"]["ephemeral_1h_input_tokens"].as_u64().unwrap_or(0),
        };
        let text = text_of(&message["content"]);
        let fact = Fact::ModelCall {
            message: message["id"].as_str().map(Into::into),
            model: message["model"].as_str().map(Into::into),
            usage,
            cost_usd: None,
            duration: None,
            time_to_first_token: None,
            stop_reason: message["stop_reason"].as_str().map(Into::into),
            text_hash: (!text.is_empty()).then(|| xxh3_64(text.as_bytes())),
        };
        self.push(line, at, sub, &text, fact);
        for block in message["content"].as_array().into_iter().flatten().filter(|block| block["type"] == "tool_use") {
            let (id, tool) = (block["id"].as_str().unwrap_or_default(), block["name"].as_str().unwrap_or_default());
            if !self.seen.insert(id.to_owned()) {
                continue;
            }
            self.tools.insert(id.to_owned(), tool.to_owned());
            let input = block["input"].to_string();
            let summary = block["input"]["command"].as_str().unwrap_or(&input).to_owned();
            let input_hash = Some(xxh3_64(input.as_bytes()));
            self.push(line, at, sub, &summary, Fact::ToolCall { id: Some(id.into()), tool: tool.into(), input_hash });
        }
    }

    fn user(&mut self, line: &Value, at: Timestamp, sub: Option<&str>) {
        let content = &line["message"]["content"];
        let results: Vec<&Value> = content.as_array().into_iter().flatten().filter(|block| block["type"] == "tool_result").collect();
        for block in &results {
            self.tool_result(line, at, sub, block);
        }
        let text = text_of(content);
        if text.starts_with("[Request interrupted") {
            self.push(line, at, sub, "", Fact::TurnEnded { duration: None });
        } else if results.is_empty() && line["isMeta"] != true && !text.starts_with("<local-command") && !text.starts_with("<command-name>") {
            self.push(line, at, sub, &text, Fact::Prompt);
        }
    }

    fn tool_result(&mut self, line: &Value, at: Timestamp, sub: Option<&str>, block: &Value) {
        let id = block["tool_use_id"].as_str().unwrap_or_default();
        if !self.seen.insert(format!("result {id}")) {
            return;
        }
        let content = block["content"].to_string();
        let outcome = match block["is_error"] == true {
            false => ToolOutcome::Success,
            true if content.contains("Sibling tool call errored") => ToolOutcome::SiblingError,
            true if content.contains("doesn't want to") => ToolOutcome::Rejected,
            true if content.contains("[Request interrupted") => ToolOutcome::Interrupted,
            true => ToolOutcome::Error,
        };
        let tool = self.tools.get(id).map(|tool| tool.as_str().into());
        let result_hash = Some(xxh3_64(content.as_bytes()));
        self.push(line, at, sub, &content, Fact::ToolResult { id: Some(id.into()), tool, outcome, result_hash, duration: None });
    }

    fn system(&mut self, line: &Value, at: Timestamp) {
        match line["subtype"].as_str().unwrap_or_default() {
            "api_error" => {
                let status = line["error"]["status"].as_u64().and_then(|status| u16::try_from(status).ok());
                let class = status.map_or(ApiErrorClass::Network, ApiErrorClass::from_status);
                let number = |key: &str| line[key].as_u64().and_then(|n| u32::try_from(n).ok());
                let (attempt, attempts_max) = (number("retryAttempt").unwrap_or(0), number("maxRetries"));
                self.push(line, at, None, "", Fact::ModelRetry { class, status, attempt, attempts_max, delay: None });
            }
            "turn_duration" => self.push(line, at, None, "", Fact::TurnEnded { duration: None }),
            "compact_boundary" => {
                let trigger = line["compactMetadata"]["trigger"].as_str().map(Into::into);
                let tokens_before = line["compactMetadata"]["preTokens"].as_u64();
                self.push(line, at, None, "", Fact::Compaction { trigger, tokens_before, tokens_after: None });
            }
            _ => {}
        }
    }

    fn failed(&mut self, line: &Value, at: Timestamp) {
        let text = text_of(&line["message"]["content"]);
        let status = text.strip_prefix("API Error: ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
        let class = status.map_or(ApiErrorClass::Unknown, ApiErrorClass::from_status);
        self.push(line, at, None, &text, Fact::ModelError { class, status, attempts: None, retries_exhausted: false, duration: None });
    }

    fn progress(&mut self, line: &Value, at: Timestamp) {
        let data = &line["data"];
        if data["type"] != "agent_progress" {
            return self.push(line, at, None, "", Fact::ToolProgress { id: None });
        }
        let mut inner = data["message"].clone();
        inner["sessionId"] = line["sessionId"].clone();
        let (sub, told) = (data["agentId"].as_str().unwrap_or("?"), inner["type"].as_str().unwrap_or_default().to_owned());
        match told.as_str() {
            "assistant" => self.assistant(&inner, at, Some(sub)),
            "user" => self.user(&inner, at, Some(sub)),
            _ => {}
        }
        self.push(line, at, None, "", Fact::ToolProgress { id: None });
    }
}
