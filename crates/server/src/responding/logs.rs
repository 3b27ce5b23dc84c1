//! Questions to the stored events, as `logs` steps ask them: `service=api level=error "timed out" -request_id | top error_type, agent`.

use std::collections::HashMap;

use paramedic_api::operations::events::EventLine;
use paramedic_model::{Level, Timestamp, text};
use paramedic_telemetry::{Search, Store};

/// Events that one question looks at, the newest first.
const EVENTS_MAX: usize = 100_000;
/// Events of one page.
const PAGE: usize = 1_000;
/// Groups that an answer names.
const GROUPS_MAX: usize = 20;
/// Lines that an answer shows where nothing is counted.
const LINES_MAX: usize = 50;
/// Groups that are counted; beyond it, further ones count as `(other)`.
const COUNTED_MAX: usize = 10_000;

/// A question, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Question {
    words: Vec<String>,
    conditions: Vec<Condition>,
    count: Counted,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Is(String, String),
    /// `key=begin*`.
    Begins(String, String),
    /// `key=*`.
    There(String),
    /// `-key`.
    Missing(String),
    /// `-key=value`.
    IsNot(String, String),
}

#[derive(Debug, Clone, PartialEq, Default)]
enum Counted {
    /// Show them.
    #[default]
    Lines,
    Count,
    Top(Vec<String>),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Found {
    pub(crate) matching: u64,
    /// The fields of `top`, and the groups with their counts, the largest first.
    pub(crate) fields: Vec<String>,
    pub(crate) groups: Vec<(Vec<String>, u64)>,
    pub(crate) lines: Vec<String>,
    /// Not everything was looked at.
    pub(crate) cut: bool,
}

impl Question {
    /// Reads a question. The error is a sentence.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let (filter, command) = split_pipe(query);
        let mut question = Self::default();
        for word in words(filter)? {
            question.take(&word)?;
        }
        question.count = match command.map(str::trim) {
            None | Some("") => Counted::Lines,
            Some("count") => Counted::Count,
            Some(command) => match command.strip_prefix("top ") {
                Some(fields) if fields.split(',').any(|field| !field.trim().is_empty()) => {
                    Counted::Top(fields.split(',').map(|field| field.trim().to_owned()).filter(|field| !field.is_empty()).collect())
                }
                _ => return Err(format!("`{command}` is neither `count` nor `top FIELD, …`")),
            },
        };
        Ok(question)
    }

    fn take(&mut self, word: &Word) -> Result<(), String> {
        if word.quoted {
            self.words.push(word.text.clone());
            return Ok(());
        }
        let (negative, plain) = word.text.strip_prefix('-').map_or((false, word.text.as_str()), |rest| (true, rest));
        let condition = match (plain.split_once('='), negative) {
            (Some(("", _)), _) => return Err(format!("`{plain}` names no field")),
            (Some((key, "*")), false) => Condition::There(key.to_owned()),
            (Some((key, "*")), true) => Condition::Missing(key.to_owned()),
            (Some(("level", value)), false) if Level::from_text(value).is_none() => {
                return Err(format!("`{value}` is no level; there are debug, info, warn and error"));
            }
            (Some((key @ ("level" | "kind"), _)), false)
                if self.conditions.iter().any(|one| matches!(one, Condition::Is(known, _) if known == key)) =>
            {
                return Err(format!("`{key}` is asked for twice"));
            }
            (Some((key, value)), false) => match value.strip_suffix('*') {
                Some(beginning) => Condition::Begins(key.to_owned(), beginning.to_lowercase()),
                None => Condition::Is(key.to_owned(), value.to_lowercase()),
            },
            (Some((key, value)), true) => Condition::IsNot(key.to_owned(), value.to_lowercase()),
            (None, true) => Condition::Missing(plain.to_owned()),
            (None, false) => {
                self.words.push(plain.to_owned());
                return Ok(());
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// What the store can look for itself.
    fn search(&self, from: Timestamp, to: Timestamp) -> Search {
        let mut search = Search { from: Some(from), to: Some(to), limit: PAGE, ..Search::default() };
        for condition in &self.conditions {
            let Condition::Is(key, value) = condition else { continue };
            match key.as_str() {
                "level" => search.level_min = Level::from_text(value),
                "kind" => search.kind = Some(value.clone()),
                _ => {}
            }
        }
        if !self.words.is_empty() {
            let phrase = |word: &String| format!("\"{}\"", word.replace('"', " "));
            search.text = Some(self.words.iter().map(phrase).collect::<Vec<_>>().join(" "));
        }
        search
    }

    fn fits(&self, event: &serde_json::Value) -> bool {
        self.conditions.iter().all(|condition| match condition {
            // The store looked for these; a level stands for all louder ones.
            Condition::Is(key, _) if key == "level" || key == "kind" => true,
            Condition::Is(key, value) => field(event, key).is_some_and(|found| found.to_lowercase() == *value),
            Condition::Begins(key, beginning) => field(event, key).is_some_and(|found| found.to_lowercase().starts_with(beginning)),
            Condition::There(key) => field(event, key).is_some(),
            Condition::Missing(key) => field(event, key).is_none(),
            Condition::IsNot(key, value) => field(event, key).is_none_or(|found| found.to_lowercase() != *value),
        })
    }

    /// Asks the store. Blocks.
    pub(crate) fn ask(&self, store: &Store, from: Timestamp, to: Timestamp) -> Result<Found, String> {
        let mut search = self.search(from, to);
        let mut found = Found::default();
        let mut counts: HashMap<Vec<String>, u64> = HashMap::new();
        if let Counted::Top(fields) = &self.count {
            found.fields.clone_from(fields);
        }
        let mut looked = 0;
        loop {
            let page = store.search(&search).map_err(|error| format!("the events cannot be searched: {error}"))?;
            looked += page.events.len();
            let next = page.next;
            for stored in page.events {
                let line = EventLine::of(stored);
                let (at, shown) = (line.at, line.text.clone());
                let Ok(event) = serde_json::to_value(line) else { continue };
                if !self.fits(&event) {
                    continue;
                }
                found.matching += 1;
                if found.lines.len() < LINES_MAX {
                    found.lines.push(format!("{at} {}", text::head(&text::one_line(&shown), 300)));
                }
                if !found.fields.is_empty() {
                    let key: Vec<String> = found
                        .fields
                        .iter()
                        .map(|name| field(&event, name).unwrap_or_default())
                        .map(|value| text::head(&value, 200).to_owned())
                        .collect();
                    let known = counts.len() < COUNTED_MAX || counts.contains_key(&key);
                    let key = if known { key } else { vec!["(other)".to_owned(); found.fields.len()] };
                    *counts.entry(key).or_default() += 1;
                }
            }
            match next {
                Some(seq) if page.more && looked < EVENTS_MAX && !page.timed_out => search.before_seq = Some(seq),
                _ => {
                    found.cut = page.more || page.timed_out;
                    break;
                }
            }
        }
        found.groups = counts.into_iter().collect();
        found.groups.sort_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
        found.groups.truncate(GROUPS_MAX);
        Ok(found)
    }
}

impl Found {
    /// The most common value of a field, groups without it left out.
    pub(crate) fn top(&self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|field| field == name)?;
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for (values, count) in &self.groups {
            if !values[at].is_empty() {
                *counts.entry(&values[at]).or_default() += count;
            }
        }
        counts.into_iter().max_by(|(a, one), (b, other)| one.cmp(other).then_with(|| b.cmp(a))).map(|(value, _)| value.to_owned())
    }

    /// The answer as lines of text.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.fields.is_empty() {
            lines.extend(self.lines.iter().cloned());
        } else {
            lines.push(format!("{:>8}  {}", "count", self.fields.join("  ")));
            let shown = |value: &String| if value.is_empty() { "-".to_owned() } else { value.clone() };
            lines.extend(
                self.groups
                    .iter()
                    .map(|(values, count)| format!("{count:>8}  {}", values.iter().map(shown).collect::<Vec<_>>().join("  "))),
            );
        }
        lines.push(format!("{} events{}", self.matching, if self.cut { ", and perhaps more: not all were looked at" } else { "" }));
        lines.join("\n")
    }
}

/// A field of an event: of its own, of what it means, or of what its source said about it.
fn field(event: &serde_json::Value, name: &str) -> Option<String> {
    let own = match name {
        "request_id" => "request",
        "trace_id" => "trace",
        "prompt_id" => "prompt",
        "session_id" => "session",
        "agent_id" => "agent",
        "user_id" => "user",
        other => other,
    };
    let others: &[&str] = match name {
        "service" => &["service.name", "service_name", "component", "logger"],
        "version" => &["service.version", "app.version", "cli_version"],
        "host" => &["host.name", "hostname", "server.address"],
        "error_type" => &["class", "error.type", "error", "exception.type", "status"],
        "tool" => &["tool_name", "gen_ai.tool.name"],
        "plugin" => &["plugin_name", "mcp_server", "server"],
        _ => &[],
    };
    let places = [event.get("fact"), event.get("attributes")];
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) if text.is_empty() => None,
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    if let Some(found) = event.get(own).and_then(text) {
        return Some(found);
    }
    let mut names = vec![name];
    names.extend(others);
    names.into_iter().find_map(|name| places.iter().flatten().find_map(|place| place.get(name).and_then(text)))
}

struct Word {
    text: String,
    quoted: bool,
}

/// The filter, and what follows the first `|` outside quotes.
fn split_pipe(query: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (at, letter) in query.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '|' if !quoted => return (&query[..at], Some(&query[at + 1..])),
            _ => {}
        }
    }
    (query, None)
}

/// Words, and texts in double quotes; `key="a b"` is one word.
fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            '"' if inside => inside = false,
            '"' => {
                inside = true;
                word.get_or_insert(Word { text: String::new(), quoted: true });
            }
            blank if blank.is_whitespace() && !inside => words.extend(word.take()),
            other => word.get_or_insert(Word { text: String::new(), quoted: false }).text.push(other),
        }
    }
    if inside {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read() {
        let question = Question::parse(
            "service=api level=error \"timed out\" oops -request_id trace_id=* kind=x agent=\"a b\" | top error_type, agent",
        )
        .unwrap();
        assert_eq!(question.words, ["timed out", "oops"]);
        assert_eq!(question.count, Counted::Top(vec!["error_type".to_owned(), "agent".to_owned()]));
        assert!(question.conditions.contains(&Condition::Missing("request_id".to_owned())));
        assert!(question.conditions.contains(&Condition::Is("agent".to_owned(), "a b".to_owned())));
        for wrong in ["\"open", "=x", "a | sort b", "level=eror", "level=error level=info", "kind=prompt kind=prompt", "a | top ,"] {
            assert!(Question::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_are_found_where_sources_put_them() {
        let event = serde_json::json!({
            "agent": "a1", "request": "req-1", "fact": {"fact": "model-error", "class": "rate-limit", "status": 429},
            "attributes": {"service.name": "api", "nothing": "", "n": 3},
        });
        let cases = [
            ("agent", Some("a1")),
            ("request_id", Some("req-1")),
            ("error_type", Some("rate-limit")),
            ("service", Some("api")),
            ("status", Some("429")),
            ("n", Some("3")),
            ("nothing", None),
            ("trace_id", None),
        ];
        for (name, expect) in cases {
            assert_eq!(field(&event, name).as_deref(), expect, "{name}");
        }
    }

    #[test]
    fn stored_events_are_filtered_counted_and_grouped() {
        use paramedic_model::{ApiErrorClass, Event, Fact, Source, SystemClock};
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), paramedic_telemetry::Settings::default(), std::sync::Arc::new(SystemClock)).unwrap();
        let (from, to) = (Timestamp::from_secs(1_700_000_000), Timestamp::from_secs(1_700_000_100));
        let event = |at: i64, agent: &str, class: ApiErrorClass, service: &str, text: &str| {
            let mut event = Event::new(Timestamp::from_secs(1_700_000_000 + at), Source::Log, "log");
            event.level = Level::Error;
            event.agent = Some(agent.into());
            event.text = text.into();
            event.fact = Fact::ModelError { class, status: Some(429), attempts: None, retries_exhausted: false, duration: None };
            event.attributes.insert("service.name".to_owned(), service.into());
            event
        };
        let mut events: Vec<Event> =
            (0..1_500).map(|at| event(at % 90, "a1", ApiErrorClass::RateLimit, "api", "request timed out")).collect();
        events.extend((0..40).map(|at| event(at, "a2", ApiErrorClass::Overloaded, "api", "overloaded")));
        events.extend((0..9).map(|at| event(at, "a3", ApiErrorClass::Overloaded, "other", "overloaded")));
        events.push(event(900, "late", ApiErrorClass::RateLimit, "api", "outside of the window"));
        store.append_blocking(events, Vec::new()).unwrap();
        let ask = |query: &str| Question::parse(query).unwrap().ask(&store, from, to).unwrap();
        let top = ask("service=api level=error | top error_type, agent");
        assert_eq!((top.matching, top.groups.len(), top.cut), (1_540, 2, false));
        assert_eq!(top.groups[0].1, 1_500);
        assert_eq!(top.top("agent").as_deref(), Some("a1"));
        assert!(top.top("error_type").unwrap().contains("rate"), "{:?}", top.groups);
        assert_eq!(ask("\"timed out\" | count").matching, 1_500);
        assert_eq!(ask("agent=a* -service=other | count").matching, 1_540);
        assert_eq!(ask("level=error -service.name | count").matching, 0);
        assert_eq!(ask("nobody-said-this | count").matching, 0);
        assert!(ask("agent=a3").lines.iter().all(|line| line.contains("overloaded")) && ask("agent=a3").lines.len() == 9);
    }

    #[test]
    fn the_top_of_a_field_is_summed_over_groups() {
        let groups = vec![
            (vec!["x".into(), "1".into()], 4),
            (vec!["y".into(), "1".into()], 3),
            (vec!["y".into(), "2".into()], 3),
            (vec![String::new(), "3".into()], 9),
        ];
        let found = Found { fields: vec!["error_type".into(), "agent".into()], groups, ..Found::default() };
        assert_eq!(found.top("error_type").as_deref(), Some("y"));
        assert_eq!(found.top("other"), None);
    }
}
