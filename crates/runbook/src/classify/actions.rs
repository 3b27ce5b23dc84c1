//! Typed actions. Their effect is known by their names, not guessed from their arguments.

use super::Effect;

/// Actions that only look.
const LOOKING: &[&str] = &[
    "data.backup_check",
    "flag.read",
    "gateway.switches",
    "git.recent",
    "kubernetes.events",
    "kubernetes.pods",
    "kubernetes.rollout_status",
    "postgres.connections",
    "postgres.locks",
    "postgres.long_transactions",
    "process.find",
    "recent_changes",
    "redis.census",
    "redis.info",
    "service.status",
];

/// Actions that lose something which cannot be had back.
const DESTROYING: &[(&str, &str)] = &[
    ("agent.kill", "the agent cannot save anything"),
    ("postgres.reset_statistics", "what was counted is gone"),
    ("process.kill", "the process cannot save anything"),
    ("redis.delete", "keys are gone"),
    ("redis.flush", "every key of the server is gone"),
    ("redis.stream_trim", "entries of a stream are gone"),
];

/// Arguments with values that make an action lose what cannot be had back. A value that is yet to be filled in may be any.
const LOSING: &[(&str, &str, &str, &str)] = &[
    ("http.request", "method", "delete", "what is deleted is gone"),
    ("kubernetes.drain", "force", "true", "pods that nothing makes anew are gone"),
    ("kubernetes.drain", "delete_empty_dir", "true", "data on the node is gone"),
];

fn loses(body: &str) -> Option<(&'static str, &'static str)> {
    let body: serde_json::Value = serde_saphyr::from_str(body).ok()?;
    let (known, _, _, why) = LOSING.iter().find(|(name, argument, value, _)| match &body[*name][*argument] {
        serde_json::Value::String(given) => given.contains('$') || given.eq_ignore_ascii_case(value),
        given => given.as_bool() == Some(true) && *value == "true",
    })?;
    Some((known, why))
}

/// The effect of an action's body, by the name that it begins with.
#[must_use]
pub fn action_effect(body: &str) -> (Effect, String) {
    let line = body.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let name = line.split(':').next().unwrap_or_default().trim();
    // Several actions in one body are more than the first one's name says.
    let several = body.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric())).count() > 1;
    if LOOKING.contains(&name) && !several {
        return (Effect::Read, String::new());
    }
    let destroys = DESTROYING.iter().find(|(known, _)| body.contains(known));
    match destroys.copied().or_else(|| loses(body)) {
        Some((known, why)) => (Effect::Destroy, format!("`{known}`: {why}")),
        None => (Effect::Write, format!("the action `{name}` changes something")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_writes_unless_it_is_known_to_look() {
        let cases = [
            ("recent_changes: { window: 60m }", Effect::Read),
            ("# what changed\nrecent_changes:\n  window: 60m\n", Effect::Read),
            ("recent_changes: {}\nservice.restart: { name: x }", Effect::Write),
            ("recent_changes: {}\nredis.delete: { pattern: x }", Effect::Destroy),
            ("service.restart: { name: recent_changes }", Effect::Write),
            ("redis.delete: { pattern: \"a:*\" }", Effect::Destroy),
            ("kubernetes.drain:\n  node: n1", Effect::Write),
            ("kubernetes.drain:\n  node: n1\n  delete_empty_dir: true", Effect::Destroy),
            ("http.request: { method: POST, url: \"http://a/b\" }", Effect::Write),
            ("http.request: { method: POST, url: \"http://a/delete\", body: DELETE }", Effect::Write),
            ("http.request: { method: delete, url: \"http://a/b\" }", Effect::Destroy),
            ("http.request: { method: $method, url: \"http://a/b\" }", Effect::Destroy),
            ("kubernetes.drain: { node: n1, force: false }", Effect::Write),
            ("process.find: { port: 5432 }", Effect::Read),
            ("redis.census: { pattern: \"a:*\" }", Effect::Read),
            ("service.status: { manager: pm2, name: redis.flush }", Effect::Read),
            ("process.kill: { pid: 1, started: 2 }", Effect::Destroy),
            ("redis.flush: {}", Effect::Destroy),
            ("{ recent_changes: {}, redis.flush: {} }", Effect::Destroy),
            ("redis.census.x: {}", Effect::Write),
            ("agent.stop: { agent: a }", Effect::Write),
            ("nobody.knows: {}", Effect::Write),
            ("", Effect::Write),
            ("\"recent_changes\": {}", Effect::Write),
        ];
        for (body, expect) in cases {
            assert_eq!(action_effect(body).0, expect, "{body}");
        }
    }
}
