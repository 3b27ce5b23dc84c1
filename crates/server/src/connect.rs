//! The lines that connect a Claude Code agent, and their reversible installation into its settings.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::instance::Ports;

/// Seconds an agent waits for our answer to a hook at the most; it goes on by itself afterwards.
const HOOK_TIMEOUT_S: u64 = 2;
/// Remembers what was added, beside the settings that it was added to.
const RECEIPT_FILE: &str = "paramedic-connect.json";
/// The hook events that tell something a transcript tells late or not at all.
const HOOK_EVENTS: &[&str] = &[
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "Notification",
    "SubagentStart",
    "SubagentStop",
    "Stop",
    "StopFailure",
    "PreCompact",
    "SessionEnd",
];

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("read {}: {why}; nothing was changed", file.display())]
    Read { file: PathBuf, why: String },
    #[error("write {}: {source}", file.display())]
    Write { file: PathBuf, source: std::io::Error },
    #[error("connect: {} is connected already; use --undo first to connect it anew", file.display())]
    AlreadyConnected { file: PathBuf },
    #[error("undo: {} does not exist, so nothing was connected here", file.display())]
    NotConnected { file: PathBuf },
}

/// What a write or an undo did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    pub file: PathBuf,
    /// Keys that were set (or taken away again).
    pub changed: Vec<String>,
    /// Keys that somebody else had set and that were left alone.
    pub kept: Vec<String>,
}

/// The environment that makes Claude Code send its telemetry here.
#[must_use]
pub fn telemetry_environment(ports: &Ports) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("CLAUDE_CODE_ENABLE_TELEMETRY", "1".to_owned()),
        ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
    ];
    match (ports.otlp_http, ports.otlp_grpc) {
        (Some(http), _) => {
            lines.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()));
            lines.push(("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{http}")));
        }
        (None, Some(grpc)) => {
            lines.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()));
            lines.push(("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{grpc}")));
        }
        (None, None) => return Vec::new(),
    }
    lines
}

/// The environment that sends Claude Code's model calls through the gateway, and lets it say which agent calls.
#[must_use]
pub fn gateway_environment(ports: &Ports) -> Vec<(&'static str, String)> {
    let Some(gateway) = ports.gateway else { return Vec::new() };
    vec![("ANTHROPIC_BASE_URL", format!("http://{gateway}")), ("CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1".to_owned())]
}

/// What connects Claude Code: its telemetry, and its model calls where they are to go through the gateway.
#[must_use]
pub fn environment(ports: &Ports, with_gateway: bool) -> Vec<(&'static str, String)> {
    let mut all = telemetry_environment(ports);
    if with_gateway {
        all.extend(gateway_environment(ports));
    }
    all
}

/// The hooks that post to this instance.
#[must_use]
pub fn hooks(ports: &Ports) -> Value {
    let Some(http) = ports.http else { return json!({}) };
    let handler = json!({"type": "http", "url": format!("http://{http}/hooks"), "timeout": HOOK_TIMEOUT_S});
    let groups = HOOK_EVENTS.iter().map(|event| ((*event).to_owned(), json!([{"hooks": [handler]}])));
    Value::Object(groups.collect())
}

/// Lines to copy: shell exports, then the hook settings.
#[must_use]
pub fn lines(ports: &Ports) -> Vec<String> {
    telemetry_environment(ports).into_iter().map(|(name, value)| format!("export {name}={value}")).collect()
}

/// Adds the telemetry environment and the hooks to `<dir>/settings.json`, leaving everything that is there as it is.
pub fn write(dir: &Path, ports: &Ports) -> Result<Outcome, ConnectError> {
    write_environment(dir, ports, &environment(ports, false))
}

/// As [`write`], with this environment.
pub fn write_environment(dir: &Path, ports: &Ports, ours: &[(&'static str, String)]) -> Result<Outcome, ConnectError> {
    let file = dir.join("settings.json");
    let receipt_file = dir.join(RECEIPT_FILE);
    if receipt_file.exists() {
        return Err(ConnectError::AlreadyConnected { file });
    }
    let existed = file.exists();
    let mut settings = read_object(&file)?;
    let mut outcome = Outcome { file: file.clone(), changed: Vec::new(), kept: Vec::new() };
    let environment = section(&mut settings, "env", &file)?;
    for (name, value) in ours {
        if environment.contains_key(*name) {
            outcome.kept.push(format!("env.{name}"));
        } else {
            environment.insert((*name).to_owned(), value.as_str().into());
            outcome.changed.push(format!("env.{name}"));
        }
    }
    let our_hooks = hooks(ports);
    let hooks = section(&mut settings, "hooks", &file)?;
    for (event, groups) in our_hooks.as_object().into_iter().flatten() {
        let list = hooks.entry(event.clone()).or_insert_with(|| json!([]));
        let Some(list) = list.as_array_mut() else {
            return Err(ConnectError::Read { file, why: format!("hooks.{event} is not a list") });
        };
        list.extend(groups.as_array().into_iter().flatten().cloned());
        outcome.changed.push(format!("hooks.{event}"));
    }
    let added: Map<_, _> = ours.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect();
    let receipt = json!({"v": 1, "existed": existed, "changed": outcome.changed, "hooks": our_hooks, "env": added});
    std::fs::create_dir_all(dir).map_err(|source| ConnectError::Write { file: dir.to_owned(), source })?;
    // The receipt first: with it alone, an undo finds nothing to take away; without it, an undo could not be done.
    write_json(&receipt_file, &receipt)?;
    write_json(&file, &Value::Object(settings))?;
    Ok(outcome)
}

/// Takes away exactly what [`write`] added; what a person changed since then stays.
pub fn undo(dir: &Path) -> Result<Outcome, ConnectError> {
    let file = dir.join("settings.json");
    let receipt_file = dir.join(RECEIPT_FILE);
    if !receipt_file.exists() {
        return Err(ConnectError::NotConnected { file: receipt_file });
    }
    let receipt = read_object(&receipt_file)?;
    let mut settings = read_object(&file)?;
    let mut outcome = Outcome { file: file.clone(), changed: Vec::new(), kept: Vec::new() };
    let changed: Vec<&str> = receipt.get("changed").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for key in changed {
        let taken = match key.split_once('.') {
            Some(("env", name)) => remove_environment(&mut settings, name, receipt.get("env")),
            Some(("hooks", event)) => remove_hooks(&mut settings, event, receipt.get("hooks")),
            _ => false,
        };
        if taken { outcome.changed.push(key.to_owned()) } else { outcome.kept.push(key.to_owned()) }
    }
    for section in ["env", "hooks"] {
        if settings.get(section).and_then(Value::as_object).is_some_and(Map::is_empty) {
            settings.shift_remove(section);
        }
    }
    let was_ours_alone = receipt.get("existed") == Some(&Value::Bool(false)) && settings.is_empty();
    if was_ours_alone {
        std::fs::remove_file(&file).map_err(|source| ConnectError::Write { file: file.clone(), source })?;
    } else {
        write_json(&file, &Value::Object(settings))?;
    }
    std::fs::remove_file(&receipt_file).map_err(|source| ConnectError::Write { file: receipt_file, source })?;
    Ok(outcome)
}

fn remove_environment(settings: &mut Map<String, Value>, name: &str, ours: Option<&Value>) -> bool {
    let Some(environment) = settings.get_mut("env").and_then(Value::as_object_mut) else { return false };
    if environment.get(name) != ours.and_then(|ours| ours.get(name)) {
        return false;
    }
    environment.shift_remove(name).is_some()
}

fn remove_hooks(settings: &mut Map<String, Value>, event: &str, ours: Option<&Value>) -> bool {
    let Some(hooks) = settings.get_mut("hooks").and_then(Value::as_object_mut) else { return false };
    let Some(list) = hooks.get_mut(event).and_then(Value::as_array_mut) else { return false };
    let ours: Vec<&Value> = ours.and_then(|ours| ours.get(event)).and_then(Value::as_array).into_iter().flatten().collect();
    let before = list.len();
    list.retain(|group| !ours.contains(&group));
    let taken = list.len() < before;
    if list.is_empty() {
        hooks.shift_remove(event);
    }
    taken
}

fn section<'a>(settings: &'a mut Map<String, Value>, name: &str, file: &Path) -> Result<&'a mut Map<String, Value>, ConnectError> {
    settings
        .entry(name)
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| ConnectError::Read { file: file.to_owned(), why: format!("{name} is not an object") })
}

fn read_object(file: &Path) -> Result<Map<String, Value>, ConnectError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(ConnectError::Read { file: file.to_owned(), why: error.to_string() }),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ConnectError::Read { file: file.to_owned(), why: "it is not a JSON object".to_owned() }),
        Err(error) => Err(ConnectError::Read { file: file.to_owned(), why: format!("it is not JSON: {error}") }),
    }
}

fn write_json(file: &Path, value: &Value) -> Result<(), ConnectError> {
    let failed = |source| ConnectError::Write { file: file.to_owned(), source };
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    // A settings file may be a link into somebody's dotfiles: replace what it points to, not the link.
    let target = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let temporary = target.with_extension("json.paramedic-new");
    std::fs::write(&temporary, text).map_err(failed)?;
    if let Ok(known) = std::fs::metadata(&target) {
        let _ = std::fs::set_permissions(&temporary, known.permissions());
    }
    std::fs::rename(&temporary, &target).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ports() -> Ports {
        Ports {
            pid: 1,
            http: Some(([127, 0, 0, 1], 3333).into()),
            otlp_grpc: Some(([127, 0, 0, 1], 4317).into()),
            otlp_http: Some(([127, 0, 0, 1], 4318).into()),
            gateway: None,
        }
    }

    fn check(before: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.json");
        if let Some(text) = before {
            std::fs::write(&file, text).unwrap();
        }
        let outcome = write(dir.path(), &ports()).unwrap();
        assert!(outcome.changed.contains(&"hooks.Stop".to_owned()));
        let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(written["hooks"]["Stop"].as_array().unwrap().last().unwrap()["hooks"][0]["url"], "http://127.0.0.1:3333/hooks");
        assert!(matches!(write(dir.path(), &ports()), Err(ConnectError::AlreadyConnected { .. })));
        undo(dir.path()).unwrap();
        match before {
            None => assert!(!file.exists()),
            Some(text) => {
                let after: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
                assert_eq!(after, serde_json::from_str::<Value>(text).unwrap());
            }
        }
        assert!(matches!(undo(dir.path()), Err(ConnectError::NotConnected { .. })));
    }

    #[test]
    fn what_was_connected_can_be_undone_to_the_letter() {
        check(None);
        check(Some("{}"));
        check(Some(r#"{"model":"opus","env":{"A":"1"},"hooks":{"Stop":[{"hooks":[{"type":"command","command":"true"}]}]}}"#));
    }

    #[test]
    fn the_gateway_is_added_only_when_it_is_asked_for_and_is_undone_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.json");
        let ports = Ports { gateway: Some(([127, 0, 0, 1], 8484).into()), ..ports() };
        let read = || serde_json::from_str::<Value>(&std::fs::read_to_string(&file).unwrap()).unwrap();
        write(dir.path(), &ports).unwrap();
        assert!(read()["env"]["ANTHROPIC_BASE_URL"].is_null());
        undo(dir.path()).unwrap();
        write_environment(dir.path(), &ports, &environment(&ports, true)).unwrap();
        assert_eq!(read()["env"]["ANTHROPIC_BASE_URL"], "http://127.0.0.1:8484");
        assert_eq!(read()["env"]["CLAUDE_CODE_GATEWAY_HINT_HEADERS"], "1");
        undo(dir.path()).unwrap();
        assert!(!file.exists());
        // Somebody's own gateway stays.
        std::fs::write(&file, r#"{"env":{"ANTHROPIC_BASE_URL":"http://proxy:1"}}"#).unwrap();
        let outcome = write_environment(dir.path(), &ports, &environment(&ports, true)).unwrap();
        assert_eq!(outcome.kept, ["env.ANTHROPIC_BASE_URL"]);
        undo(dir.path()).unwrap();
        assert_eq!(read()["env"], json!({"ANTHROPIC_BASE_URL": "http://proxy:1"}));
    }

    #[test]
    fn somebody_elses_exporter_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("settings.json"), r#"{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"http://collector:4318"}}"#).unwrap();
        let outcome = write(dir.path(), &ports()).unwrap();
        assert_eq!(outcome.kept, ["env.OTEL_EXPORTER_OTLP_ENDPOINT"]);
    }

    #[test]
    fn broken_settings_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{", "[]", r#"{"hooks":[]}"#, r#"{"hooks":{"Stop":{}}}"#] {
            std::fs::write(dir.path().join("settings.json"), text).unwrap();
            assert!(write(dir.path(), &ports()).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(dir.path().join("settings.json")).unwrap(), text);
            assert!(!dir.path().join(RECEIPT_FILE).exists());
        }
    }
}
