//! From a rule's alert to an alert of the journal: who it is about, how bad it is, and what kind of trouble it is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use paramedic_model::alert::AlertCounts;
use paramedic_model::{AgentId, AlertChange, AlertState, Evidence, Fingerprint, IncidentType, RuleAlert, SessionId, Severity, Timestamp};
use paramedic_model::{limit, secret, text};
use paramedic_promql::Labels;
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::number::format_general;

/// Names the detector of every rule.
pub const DETECTOR: &str = "rule";
/// Bytes of one annotation or label that go to the journal.
const TEXT_BYTES_MAX: usize = 2 * 1024;
/// Bytes of the sentence for a person.
const REASON_BYTES_MAX: usize = 512;
/// Labels and annotations that go to the journal.
const PAIRS_MAX: usize = 64;

/// What is told of a rule's alert.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    pub rule: &'a str,
    pub group: &'a str,
    pub expression: &'a str,
    /// `alertname` included.
    pub labels: &'a Labels,
    pub annotations: &'a BTreeMap<String, String>,
    pub value: f64,
    /// Milliseconds.
    pub active_at: i64,
    /// Milliseconds.
    pub at: i64,
    pub state: AlertState,
}

/// The fingerprint of an alert: its name and a hash of its labels, the same across restarts.
pub fn fingerprint(labels: &Labels) -> Fingerprint {
    let mut bytes = Vec::with_capacity(256);
    for label in labels.iter().filter(|label| &*label.name != METRIC_NAME) {
        bytes.extend_from_slice(label.name.as_bytes());
        bytes.push(0xff);
        bytes.extend_from_slice(label.value.as_bytes());
        bytes.push(0xfe);
    }
    let name = text::head(labels.get("alertname"), limit::ID_BYTES_MAX);
    Fingerprint(format!("{DETECTOR}:{name}:{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)))
}

/// The alert as the journal takes it.
pub fn change(telling: Telling<'_>) -> AlertChange {
    let Telling { labels, annotations, .. } = telling;
    let first = |names: &[&str]| names.iter().map(|name| labels.get(name)).find(|value| !value.is_empty()).map(identifier);
    let at = Timestamp::from_millis(telling.at);
    let value = format_general(telling.value);
    let shown = format!("{} = {value} {labels}", telling.expression);
    AlertChange {
        fingerprint: fingerprint(labels),
        detector: Cow::Borrowed(DETECTOR),
        agent: first(&["agent_id", "agent"]).map(AgentId::new),
        session: first(&["session_id", "session"]).map(SessionId::new),
        user: first(&["user_id", "user"]),
        started_at: Timestamp::from_millis(telling.active_at),
        at,
        state: telling.state,
        severity: severity(labels),
        incident_type: incident_type(labels),
        cause: cause(labels),
        reason: reason(telling.rule, annotations, &value),
        evidence: vec![Evidence { at, text: clean(&shown, limit::ATTRIBUTE_BYTES_MAX) }],
        counts: AlertCounts::default(),
        rule: Some(Box::new(RuleAlert {
            name: clean(telling.rule, limit::ID_BYTES_MAX),
            group: clean(telling.group, limit::ID_BYTES_MAX),
            labels: pairs(labels.iter().map(|label| (&*label.name, &*label.value))),
            annotations: pairs(annotations.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            expression: clean(telling.expression, limit::EVENT_TEXT_BYTES_MAX),
            value: telling.value.is_finite().then_some(telling.value),
        })),
    }
}

fn clean(words: &str, bytes_max: usize) -> String {
    text::capped(&secret::mask(words), bytes_max).into_owned()
}

fn identifier(value: &str) -> String {
    text::head(&text::one_line(value), limit::ID_BYTES_MAX).to_owned()
}

fn pairs<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    all.take(PAIRS_MAX).map(|(name, value)| (clean(name, limit::ID_BYTES_MAX), clean(value, TEXT_BYTES_MAX))).collect()
}

/// Alerts with the same cause are one incident: a rule may name it, otherwise it is the alert's name.
fn cause(labels: &Labels) -> String {
    match labels.get("cause") {
        "" => format!("{DETECTOR}:{}", identifier(labels.get("alertname"))),
        cause => identifier(cause),
    }
}

/// The summary, else the description, else the name with the value.
fn reason(rule: &str, annotations: &BTreeMap<String, String>, value: &str) -> String {
    let written =
        ["summary", "description", "message"].iter().filter_map(|name| annotations.get(*name)).find(|text| !text.trim().is_empty());
    let sentence = written.map_or_else(|| format!("{rule}: {value}"), |text| text::one_line(text.trim()).into_owned());
    clean(&sentence, REASON_BYTES_MAX)
}

/// How bad it is: `sev` before `severity`. `info`, `none` and nothing are a note.
pub fn severity(labels: &Labels) -> Option<Severity> {
    let number = labels.get("sev").trim();
    let by_number = Severity::ALL.iter().find(|severity| severity.number().to_string() == number).copied();
    if let Some(severity) = by_number.or_else(|| number.parse().ok()) {
        return Some(severity);
    }
    let word = labels.get("severity").trim().to_ascii_lowercase();
    match word.as_str() {
        "" | "none" | "info" | "informational" | "notice" | "debug" | "ok" => None,
        "page" | "emergency" | "fatal" | "disaster" | "1" => Some(Severity::Sev1),
        "high" | "major" | "2" => Some(Severity::Sev2),
        "medium" | "3" => Some(Severity::Sev3),
        "low" | "minor" | "4" => Some(Severity::Sev4),
        // A word of the team's own is still a wish to be told.
        other => Some(other.parse().unwrap_or(Severity::Sev3)),
    }
}

/// Words that tell what kind of trouble it is, the most telling kind first.
const KINDS: [(IncidentType, &[&str]); 7] = [
    (
        IncidentType::Authentication,
        &[
            "auth",
            "authentication",
            "authorization",
            "unauthorized",
            "unauthorised",
            "forbidden",
            "login",
            "credential",
            "security",
            "certificate",
            "cert",
            "tls",
            "ssl",
            "injection",
            "pii",
        ],
    ),
    (IncidentType::RateLimit, &["ratelimit", "ratelimited", "throttle", "throttled", "throttling", "quota", "429"]),
    (IncidentType::Timeout, &["timeout", "timeouts", "stuck", "hung", "hang", "stalled", "deadline", "stale"]),
    (IncidentType::MemoryLeak, &["memory", "mem", "oom", "leak", "rss", "swap", "heap"]),
    (
        IncidentType::DataCorruption,
        &[
            "corrupt",
            "corruption",
            "corrupted",
            "loss",
            "checksum",
            "deadlock",
            "deadlocks",
            "replication",
            "integrity",
            "backup",
            "wal",
            "validation",
            "inconsistent",
        ],
    ),
    (
        IncidentType::PluginCrash,
        &[
            "crash",
            "crashed",
            "looping",
            "crashing",
            "crashloop",
            "crashlooping",
            "restart",
            "restarts",
            "restarted",
            "down",
            "panic",
            "daemon",
            "process",
            "plugin",
            "mcp",
            "pod",
            "container",
            "exited",
            "running",
            "died",
        ],
    ),
    (
        IncidentType::ApiFailure,
        &[
            "api",
            "error",
            "errors",
            "failure",
            "failures",
            "failed",
            "failing",
            "5xx",
            "http",
            "circuit",
            "upstream",
            "unreachable",
            "unavailable",
            "availability",
            "endpoint",
            "webhook",
            "dns",
        ],
    ),
];

/// The incident type a label names, else the one that the alert's name and its labels suggest, else performance.
pub fn incident_type(labels: &Labels) -> IncidentType {
    if let Some(named) = IncidentType::from_name(labels.get("incident_type")) {
        return named;
    }
    let name = words(labels.get("alertname"));
    let rate_limit = name.windows(2).any(|pair| pair[0] == "rate" && (pair[1].starts_with("limit")));
    if rate_limit || labels.get("cause") == "rate-limit" {
        return IncidentType::RateLimit;
    }
    let find =
        |words: &[String]| KINDS.iter().find(|(_, kind)| words.iter().any(|word| kind.contains(&word.as_str()))).map(|(kind, _)| *kind);
    let others = || ["cause", "category", "component", "subsystem", "type"].into_iter().find_map(|label| find(&words(labels.get(label))));
    find(&name).or_else(others).unwrap_or(IncidentType::Performance)
}

/// The words of a name in camel case, with hyphens or underscores, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = name.chars().take(limit::ID_BYTES_MAX).collect();
    for (i, c) in chars.iter().enumerate() {
        let after_small = i > 0 && chars[i - 1].is_lowercase();
        let before_small = i > 0 && chars[i - 1].is_uppercase() && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        if !c.is_alphanumeric() || c.is_uppercase() && (after_small || before_small) {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_of_three_vocabularies_are_read() {
        for (pairs, expected) in [
            (vec![("severity", "critical")], Some(Severity::Sev1)),
            (vec![("severity", "page")], Some(Severity::Sev1)),
            (vec![("severity", "P1")], Some(Severity::Sev2)),
            (vec![("severity", "warning")], Some(Severity::Sev3)),
            (vec![("severity", "warning"), ("sev", "2")], Some(Severity::Sev2)),
            (vec![("sev", "SEV-4")], Some(Severity::Sev4)),
            (vec![("severity", "minor")], Some(Severity::Sev4)),
            (vec![("severity", "ticket")], Some(Severity::Sev3)),
            (vec![("severity", "info")], None),
            (vec![("severity", "none")], None),
            (vec![], None),
        ] {
            assert_eq!(severity(&Labels::from_pairs(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_kind_of_trouble_is_read_from_names() {
        for (pairs, expected) in [
            (vec![("alertname", "HighErrorRate")], IncidentType::ApiFailure),
            (vec![("alertname", "RateLimitErrors")], IncidentType::RateLimit),
            (vec![("alertname", "HostOutOfMemory")], IncidentType::MemoryLeak),
            (vec![("alertname", "OOMKilled")], IncidentType::MemoryLeak),
            (vec![("alertname", "AgentStuck")], IncidentType::Timeout),
            (vec![("alertname", "KubePodCrashLooping")], IncidentType::PluginCrash),
            (vec![("alertname", "TLSCertificateExpiry")], IncidentType::Authentication),
            (vec![("alertname", "Whatever"), ("component", "memory_daemon")], IncidentType::MemoryLeak),
            (vec![("alertname", "Whatever"), ("incident_type", "data_corruption")], IncidentType::DataCorruption),
            (vec![("alertname", "HighLatencyP95")], IncidentType::Performance),
        ] {
            assert_eq!(incident_type(&Labels::from_pairs(&pairs)), expected, "{pairs:?}");
        }
        assert_eq!(words("HTTPErrorRate_5xx-high"), ["http", "error", "rate", "5xx", "high"]);
    }

    #[test]
    fn an_alert_is_told_with_who_and_why() {
        let labels = Labels::from_pairs(&[("alertname", "A"), ("agent_id", "a1"), ("user", "u"), ("severity", "critical")]);
        let annotations =
            BTreeMap::from([("summary".to_owned(), "too many\nerrors with sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789".to_owned())]);
        let telling = Telling {
            rule: "A",
            group: "g",
            expression: "up == 0",
            labels: &labels,
            annotations: &annotations,
            value: 0.5,
            active_at: 1_000,
            at: 2_000,
            state: AlertState::Firing,
        };
        let told = change(telling);
        assert_eq!(told.fingerprint, change(Telling { at: 9_000, value: 7.0, ..telling }).fingerprint, "the same alert");
        assert!(told.fingerprint.0.starts_with("rule:A:"), "{}", told.fingerprint);
        assert_eq!((told.agent.unwrap().as_str(), told.user.unwrap().as_str(), told.cause.as_str()), ("a1", "u", "rule:A"));
        assert!(told.reason.starts_with("too many errors with ") && !told.reason.contains("abcdefghijklmnop"), "{}", told.reason);
        assert_eq!(told.evidence[0].text, "up == 0 = 0.5 {agent_id=\"a1\", alertname=\"A\", severity=\"critical\", user=\"u\"}");
        assert_eq!(told.rule.unwrap().labels["alertname"], "A");
    }
}
