//! A slow second opinion on what a transcript line says: every line parsed in full by serde, nothing left unread.

use std::borrow::Cow;
use std::time::Duration;

use paramedic_collect::api_error::{Signs, classify};
use paramedic_collect::tool_input::tool_input_hash;
use paramedic_model::{ApiErrorClass, Event, Fact, Timestamp, ToolOutcome, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    subtype: Option<String>,
    #[serde(borrow)]
    uuid: Option<&'a RawValue>,
    timestamp: Option<String>,
    session_id: Option<String>,
    agent_id: Option<String>,
    request_id: Option<String>,
    #[serde(rename = "parentToolUseID")]
    parent_tool: Option<String>,
    #[serde(default)]
    is_sidechain: bool,
    #[serde(default)]
    is_meta: bool,
    #[serde(default)]
    is_compact_summary: bool,
    #[serde(default)]
    is_api_error_message: bool,
    api_error_status: Option<u16>,
    retry_attempt: Option<u32>,
    max_retries: Option<u32>,
    retry_in_ms: Option<f64>,
    duration_ms: Option<u64>,
    error: Option<Value>,
    compact_metadata: Option<Value>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    id: Option<String>,
    model: Option<String>,
    stop_reason: Option<String>,
    usage: Option<Value>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Block<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    tool_use_id: Option<String>,
    name: Option<String>,
    text: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Data<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "agentId")]
    agent_id: Option<String>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// What is compared: everything but texts and attributes.
#[derive(Debug, PartialEq)]
pub(crate) struct Essence {
    pub(crate) at: Timestamp,
    pub(crate) agent: String,
    pub(crate) uid: u64,
    pub(crate) request: Option<String>,
    pub(crate) fact: Fact,
}

/// The same of real events; announcements of sessions and sub-agents are left out.
pub(crate) fn essence(event: &Event) -> Option<Essence> {
    (!matches!(&*event.name, "session" | "subagent" | "assistant/limit")).then(|| Essence {
        at: event.at,
        agent: event.agent.as_ref().unwrap().to_string(),
        uid: event.uid.unwrap(),
        request: event.correlation.request.as_deref().map(str::to_owned),
        fact: event.fact.clone(),
    })
}

/// State of one file.
pub(crate) struct Reference {
    session_of_path: String,
    subagent_of_path: Option<String>,
    last_at: Option<Timestamp>,
    session: Option<String>,
    last_retry: Option<(u32, Option<u32>)>,
}

impl Reference {
    pub(crate) fn new(session_of_path: &str, subagent_of_path: Option<&str>) -> Self {
        Self {
            session_of_path: session_of_path.to_owned(),
            subagent_of_path: subagent_of_path.map(str::to_owned),
            last_at: None,
            session: None,
            last_retry: None,
        }
    }

    /// `None`: the line is not a JSON object. Lines before the first time are not the reference's business.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Vec<Essence>> {
        let line: Line<'_> = serde_json::from_slice(bytes).ok()?;
        let mut out = Vec::new();
        if line.kind.as_deref() == Some("file-history-snapshot") {
            return Some(out);
        }
        self.session = line.session_id.clone().or_else(|| self.session.take());
        let at = line.timestamp.as_deref().and_then(Timestamp::parse).or(self.last_at);
        self.last_at = at;
        let at = at?;
        let agent = self.agent(&line);
        self.line(&line, bytes, at, &agent, &mut out);
        Some(out)
    }

    fn agent(&self, line: &Line<'_>) -> String {
        let session = self.session.as_deref().unwrap_or(&self.session_of_path);
        match (&line.agent_id, &self.subagent_of_path) {
            (Some(id), _) if line.is_sidechain || self.subagent_of_path.is_some() => format!("{session}/{id}"),
            (_, Some(id)) => format!("{session}/{id}"),
            _ if line.is_sidechain => format!("{session}/sidechain"),
            _ => session.to_owned(),
        }
    }

    fn line(&mut self, line: &Line<'_>, bytes: &[u8], at: Timestamp, agent: &str, out: &mut Vec<Essence>) {
        let identity = identity(line, bytes);
        let one = |index: usize, fact: Fact| Essence {
            at,
            agent: agent.to_owned(),
            uid: if index == 0 { identity } else { xxh3_64_with_seed(&identity.to_le_bytes(), index as u64) },
            request: line.request_id.clone(),
            fact,
        };
        match line.kind.as_deref().unwrap_or_default() {
            "assistant" => {
                let facts = assistant(line);
                for (index, mut fact) in facts {
                    match &mut fact {
                        Fact::ModelCall { .. } => self.last_retry = None,
                        Fact::ModelError { attempts, retries_exhausted, .. } => {
                            if let Some((attempt, max)) = self.last_retry.take() {
                                *attempts = Some(attempt + 1);
                                *retries_exhausted = max == Some(attempt);
                            }
                        }
                        _ => {}
                    }
                    out.push(one(index, fact));
                }
            }
            "user" => out.extend(user(line).into_iter().enumerate().map(|(index, fact)| one(index, fact))),
            "system" => {
                let mut essence = one(0, system(line));
                if let Fact::ModelRetry { attempt, attempts_max, .. } = essence.fact {
                    self.last_retry = Some((attempt, attempts_max));
                    let error = line.error.as_ref();
                    let request = error.and_then(|error| error["requestID"].as_str().or(error["headers"]["request-id"].as_str()));
                    essence.request = request.map(str::to_owned).or(essence.request);
                }
                out.push(essence);
            }
            "progress" => {
                let data: Option<Data<'_>> = line.data.and_then(|data| serde_json::from_str(data.get()).ok());
                let kind = data.as_ref().and_then(|data| data.kind.as_deref()).unwrap_or_default();
                let is_tool = matches!(kind, "bash_progress" | "hook_progress" | "mcp_progress" | "agent_progress" | "powershell_progress");
                let fact = if is_tool { Fact::ToolProgress { id: line.parent_tool.as_deref().map(Into::into) } } else { Fact::Record };
                out.push(one(0, fact));
                if kind == "agent_progress" {
                    self.nested(&data.unwrap(), at, out);
                }
            }
            _ => out.push(one(0, Fact::Record)),
        }
    }

    fn nested(&self, data: &Data<'_>, at: Timestamp, out: &mut Vec<Essence>) {
        let (Some(id), Some(raw)) = (&data.agent_id, data.message) else { return };
        let inner: Line<'_> = serde_json::from_str(raw.get()).unwrap();
        let at = inner.timestamp.as_deref().and_then(Timestamp::parse).unwrap_or(at);
        let agent = format!("{}/{id}", self.session.as_deref().unwrap_or(&self.session_of_path));
        let facts = match inner.kind.as_deref() {
            Some("assistant") => assistant(&inner),
            Some("user") => user(&inner).into_iter().enumerate().collect(),
            _ => Vec::new(),
        };
        let identity = identity(&inner, raw.get().as_bytes());
        for (index, fact) in facts {
            let uid = if index == 0 { identity } else { xxh3_64_with_seed(&identity.to_le_bytes(), index as u64) };
            out.push(Essence { at, agent: agent.clone(), uid, request: inner.request_id.clone(), fact });
        }
    }
}

fn identity(line: &Line<'_>, bytes: &[u8]) -> u64 {
    let written = line.uuid.and_then(|uuid| uuid.get().strip_prefix('"')?.strip_suffix('"'));
    xxh3_64(written.map_or(bytes.trim_ascii(), str::as_bytes))
}

fn blocks<'a>(message: &'a Message<'_>) -> Vec<Block<'a>> {
    message.content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default()
}

fn string(message: &Message<'_>) -> Option<String> {
    message.content.and_then(|content| serde_json::from_str(content.get()).ok())
}

fn first_text(message: &Message<'_>) -> Option<String> {
    string(message).or_else(|| blocks(message).into_iter().find_map(|block| block.text))
}

fn boxed(text: Option<&String>) -> Option<Box<str>> {
    text.map(|text| text.as_str().into())
}

fn assistant(line: &Line<'_>) -> Vec<(usize, Fact)> {
    let Some(message) = &line.message else { return vec![(0, Fact::Record)] };
    let error = line.error.as_ref().and_then(Value::as_str);
    if line.is_api_error_message || error.is_some() {
        let text = first_text(message).unwrap_or_default();
        let (class, status) = classify(Signs { kind: error, status: line.api_error_status, text: &text });
        return vec![(0, Fact::ModelError { class, status, attempts: None, retries_exhausted: false, duration: None })];
    }
    if message.model.as_deref() == Some("<synthetic>") {
        return vec![(0, Fact::Record)];
    }
    let blocks = blocks(message);
    let said: Vec<String> = string(message)
        .into_iter()
        .chain(blocks.iter().filter(|block| block.kind == "text").filter_map(|block| block.text.clone()))
        .collect();
    let words: String =
        said.iter().flat_map(|text| text.split_whitespace()).map(|word| format!("{} ", word.to_ascii_lowercase())).collect();
    let mut facts = vec![(
        0,
        Fact::ModelCall {
            message: boxed(message.id.as_ref()),
            model: boxed(message.model.as_ref()),
            usage: usage(message.usage.as_ref()),
            cost_usd: None,
            duration: None,
            time_to_first_token: None,
            stop_reason: boxed(message.stop_reason.as_ref()),
            text_hash: (!words.is_empty()).then(|| xxh3_64(words.as_bytes())),
        },
    )];
    for (index, block) in blocks.iter().enumerate() {
        if matches!(block.kind.as_str(), "tool_use" | "server_tool_use" | "mcp_tool_use") {
            let input_hash = block.input.map(|input| tool_input_hash(input.get().as_bytes()));
            facts.push((index + 1, Fact::ToolCall { id: boxed(block.id.as_ref()), tool: block.name.clone().unwrap().into(), input_hash }));
        }
    }
    facts
}

fn usage(usage: Option<&Value>) -> Usage {
    let Some(usage) = usage else { return Usage::default() };
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    Usage {
        input_tokens: count("input_tokens"),
        output_tokens: count("output_tokens"),
        cache_read_tokens: count("cache_read_input_tokens"),
        cache_creation_tokens: count("cache_creation_input_tokens"),
        cache_creation_1h_tokens: usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64().unwrap_or(0),
    }
}

fn user(line: &Line<'_>) -> Vec<Fact> {
    let Some(message) = &line.message else { return vec![Fact::Record] };
    let mut facts: Vec<Fact> = blocks(message)
        .iter()
        .filter(|block| block.kind == "tool_result")
        .map(|block| Fact::ToolResult {
            id: boxed(block.tool_use_id.as_ref().or(block.id.as_ref())),
            tool: None,
            outcome: outcome(block),
            result_hash: block.content.map(|content| xxh3_64(content.get().as_bytes())),
            duration: None,
        })
        .collect();
    let text = first_text(message).unwrap_or_default();
    let text = text.trim_ascii_start();
    let asides = ["<local-command-", "<command-name>", "<bash-input>", "<bash-stdout>", "<bash-stderr>", "<system-reminder>", "Caveat: "];
    if text.starts_with("[Request interrupted by user") {
        facts.push(Fact::TurnEnded { duration: None });
    } else if facts.is_empty() {
        let is_aside = line.is_meta || line.is_compact_summary || asides.iter().any(|aside| text.starts_with(aside));
        facts.push(if is_aside { Fact::Record } else { Fact::Prompt });
    }
    facts
}

fn outcome(block: &Block<'_>) -> ToolOutcome {
    let content = block.content.map_or("", RawValue::get);
    let reason: String = content.chars().take(300).collect();
    match block.is_error {
        Some(true) if reason.contains("[Request interrupted") => ToolOutcome::Interrupted,
        Some(true) if reason.contains("user doesn't want to") || reason.contains("tool use was rejected") => ToolOutcome::Rejected,
        Some(true) if reason.contains("Sibling tool call errored") => ToolOutcome::SiblingError,
        Some(true) => ToolOutcome::Error,
        _ => ToolOutcome::Success,
    }
}

fn system(line: &Line<'_>) -> Fact {
    match line.subtype.as_deref() {
        Some("turn_duration") => Fact::TurnEnded { duration: line.duration_ms.map(Duration::from_millis) },
        Some("compact_boundary") => {
            let metadata = line.compact_metadata.clone().unwrap_or_default();
            Fact::Compaction {
                trigger: metadata["trigger"].as_str().map(Into::into),
                tokens_before: metadata["preTokens"].as_u64(),
                tokens_after: metadata["postTokens"].as_u64(),
            }
        }
        Some("api_error") => {
            let error = line.error.clone().unwrap_or_default();
            let status = error["status"].as_u64().map(|status| u16::try_from(status).unwrap());
            let class = match error["error"]["error"]["type"].as_str() {
                Some("overloaded_error") => ApiErrorClass::Overloaded,
                Some("rate_limit_error") => ApiErrorClass::RateLimit,
                Some("api_error") => ApiErrorClass::Server,
                _ => status.map_or(ApiErrorClass::Network, ApiErrorClass::from_status),
            };
            Fact::ModelRetry {
                class,
                status,
                attempt: line.retry_attempt.unwrap_or(1),
                attempts_max: line.max_retries,
                delay: line.retry_in_ms.map(|millis| Duration::from_secs_f64(millis / 1000.0)),
            }
        }
        _ => Fact::Record,
    }
}
