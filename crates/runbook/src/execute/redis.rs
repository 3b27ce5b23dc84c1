//! Commands for Redis, sent as whole arguments.

use ::redis::{AsyncConnectionConfig, Client, Value};

use super::Order;
use super::output::{Collected, hidden};
use crate::outcome::Outcome;

/// Elements of an answer that are kept; all are counted.
const ELEMENTS_MAX: usize = 10_000;
/// Bytes of an answer that is also kept as JSON; of a longer one only its text is.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) async fn run(url: Option<&str>, commands: &[Vec<String>], order: &Order) -> Outcome {
    let Some(url) = url else { return Outcome::fault("no Redis server is set for runbooks") };
    match ask(url, commands, order).await {
        Ok(outcome) => outcome,
        Err(why) => Outcome::fault(hidden(&why, &order.secrets, &order.redact)),
    }
}

async fn ask(url: &str, commands: &[Vec<String>], order: &Order) -> Result<Outcome, String> {
    // The library's reason may repeat parts of the URL.
    let client = Client::open(url).map_err(|_| "the address of the Redis server cannot be read".to_owned())?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(order.timeout)).set_response_timeout(Some(order.timeout));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| format!("Redis: {error}"))?;
    let mut collected = Collected::default();
    // Only the last one is more than text later.
    let mut last = None;
    for command in commands.iter().filter(|command| !command.is_empty()) {
        let mut asked = ::redis::Cmd::new();
        for word in command {
            asked.arg(word);
        }
        let answer: Value = asked.query_async(&mut connection).await.map_err(|error| format!("Redis says to {}: {error}", command[0]))?;
        written(&answer, &mut collected, 0);
        collected.push(b"\n");
        last = Some(answer);
    }
    let mut outcome = Outcome { stdout: collected.keep(&order.secrets, &order.redact), ..Outcome::default() };
    if let Some(last) = &last {
        let mut left = JSON_BYTES_MAX;
        outcome.json = json(last, order, &mut left);
        if let Value::Array(items) | Value::Set(items) = last {
            outcome.rows = Some(items.len() as u64);
        }
    }
    outcome.understand();
    Ok(outcome)
}

/// One element a line.
fn written(value: &Value, text: &mut Collected, depth: usize) {
    match value {
        Value::Array(items) | Value::Set(items) if depth < 8 => {
            for (at, item) in items.iter().take(ELEMENTS_MAX).enumerate() {
                if at > 0 {
                    text.push(b"\n");
                }
                written(item, text, depth + 1);
            }
        }
        Value::Map(pairs) if depth < 8 => {
            for (at, (key, value)) in pairs.iter().take(ELEMENTS_MAX).enumerate() {
                if at > 0 {
                    text.push(b"\n");
                }
                written(key, text, depth + 1);
                text.push(b"\n");
                written(value, text, depth + 1);
            }
        }
        other => text.push(leaf(other).as_bytes()),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        other => format!("{other:?}"),
    }
}

/// The answer as JSON; none when that would be longer than what is left, because a part of it could be taken for the whole.
fn json(value: &Value, order: &Order, left: &mut usize) -> Option<serde_json::Value> {
    *left = left.checked_sub(1)?;
    Some(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Int(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Array(items) | Value::Set(items) => {
            items.iter().take(ELEMENTS_MAX).map(|item| json(item, order, left)).collect::<Option<_>>()?
        }
        Value::Map(pairs) => {
            let mut flat = Vec::new();
            for (key, value) in pairs.iter().take(ELEMENTS_MAX) {
                flat.push(json(key, order, left)?);
                flat.push(json(value, order, left)?);
            }
            flat.into()
        }
        other => {
            let text = leaf(other);
            *left = left.checked_sub(text.len())?;
            hidden(&text, &order.secrets, &order.redact).into()
        }
    })
}
