//! Queries, requests and actions: a value is a literal of their language.

use serde_json::Value;

use super::values::Values;
use super::words::variable;
use super::{Blocked, Work};

/// Copies a text and puts values in. `put` sees the open quote, what was written so far, the name and the value.
fn fill(
    text: &str,
    quotes: &[char],
    values: &Values,
    put: impl Fn(Option<char>, &mut String, &str) -> Result<(), String>,
) -> Result<String, Vec<Blocked>> {
    let letters: Vec<char> = text.chars().collect();
    let (mut out, mut blocked, mut quote, mut at) = (String::new(), Vec::new(), None, 0);
    while let Some(letter) = letters.get(at).copied() {
        if letter == '$'
            && let Some((name, end)) = variable(&letters, at)
        {
            match values.get(&name) {
                Ok(value) => {
                    if let Err(why) = put(quote, &mut out, value) {
                        blocked.push(Blocked::Value { name, why });
                    }
                }
                Err(why) => blocked.push(why),
            }
            at = end;
            continue;
        }
        match quote {
            None if quotes.contains(&letter) => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        out.push(letter);
        at += 1;
    }
    if blocked.is_empty() { Ok(out) } else { Err(blocked) }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:.".contains(letter))
}

/// In quotes a value is escaped; outside it must be one name or number.
pub(super) fn promql(text: &str, values: &Values) -> Result<String, Vec<Blocked>> {
    fill(text, &['"', '\'', '`'], values, |quote, out, value| match quote {
        None if is_plain(value) => {
            out.push_str(value);
            Ok(())
        }
        None => Err("stands outside quotes and is neither a name nor a number".to_owned()),
        Some('`') if value.contains('`') => Err("has a backtick".to_owned()),
        Some('`') => {
            out.push_str(value);
            Ok(())
        }
        Some(_) => {
            for letter in value.chars() {
                match letter {
                    '\\' | '"' | '\'' => out.extend(['\\', letter]),
                    '\n' => out.push_str("\\n"),
                    letter => out.push(letter),
                }
            }
            Ok(())
        }
    })
}

/// A value is a quoted literal; the server gives it the type that the place asks for.
pub(super) fn sql(text: &str, values: &Values) -> Result<String, Vec<Blocked>> {
    if !super::words::names(text).is_empty() && (text.contains("$$") || text.contains("--") || text.contains("/*")) {
        return Err(vec![Blocked::Unreadable { why: "values, and comments or `$$`, do not go together in one statement".to_owned() }]);
    }
    fill(text, &['\'', '"'], values, |quote, out, value| {
        if quote.is_some() {
            return Err("stands inside quotes; without them it is quoted as it must be".to_owned());
        }
        if value.contains('\\') || value.contains('\0') {
            return Err("has a backslash, which servers read in different ways".to_owned());
        }
        out.push('\'');
        out.push_str(&value.replace('\'', "''"));
        out.push('\'');
        Ok(())
    })
}

/// A value is one word of the query.
pub(super) fn logs(text: &str, values: &Values) -> Result<String, Vec<Blocked>> {
    fill(text, &['"'], values, |quote, out, value| {
        let plain = !value.is_empty() && value.chars().all(|letter| letter.is_alphanumeric() || "_.:/@-".contains(letter));
        match quote {
            None if plain => out.push_str(value),
            None => out.push_str(&Value::String(value.to_owned()).to_string()),
            Some(_) => {
                out.push_str(Value::String(value.to_owned()).to_string().trim_start_matches('"').strip_suffix('"').unwrap_or_default())
            }
        }
        Ok(())
    })
}

/// `METHOD URL`, headers, an empty line, a body.
pub(super) fn http(text: &str, values: &Values) -> Result<Work, Vec<Blocked>> {
    let unreadable = |why: &str| vec![Blocked::Unreadable { why: why.to_owned() }];
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let request = lines.next().ok_or_else(|| unreadable("there is no request"))?;
    let (method, url) = request.split_once(char::is_whitespace).unwrap_or(("GET", request));
    let method = method.to_ascii_uppercase();
    if !["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
        return Err(unreadable(&format!("{method} is not a method")));
    }
    let url = fill(url.trim(), &[], values, |_, out, value| {
        if out.is_empty() {
            out.push_str(value);
        } else {
            value.bytes().for_each(|byte| out.push_str(&encoded(byte)));
        }
        Ok(())
    })?;
    if !(url.starts_with("http://") || url.starts_with("https://"))
        || url.contains(char::is_whitespace)
        || url.chars().any(char::is_control)
    {
        return Err(unreadable("the address must begin with http:// or https:// and have no blanks"));
    }
    let mut headers = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(unreadable(&format!("`{line}` is no header"))) };
        let value = fill(value.trim(), &[], values, |_, out, value| {
            out.push_str(value);
            if value.chars().any(char::is_control) { Err("has a line break".to_owned()) } else { Ok(()) }
        })?;
        headers.push((name.trim().to_owned(), value));
    }
    Ok(Work::Http { method, url, headers, body: http_body(body.trim(), values)? })
}

/// Values go into JSON as strings, and into a form encoded.
fn http_body(body: &str, values: &Values) -> Result<String, Vec<Blocked>> {
    if super::words::names(body).is_empty() {
        return Ok(body.to_owned());
    }
    if let Ok(json) = serde_json::from_str::<Value>(body) {
        return in_leaves(json, values).map(|json| json.to_string());
    }
    fill(body, &[], values, |_, out, value| {
        value.bytes().for_each(|byte| out.push_str(&encoded(byte)));
        Ok(())
    })
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// One action and its arguments, from YAML.
pub(super) fn action(text: &str, values: &Values) -> Result<Work, Vec<Blocked>> {
    match literal_action(text)? {
        Work::Action { name, arguments } => Ok(Work::Action { name, arguments: in_leaves(arguments, values)? }),
        other => Ok(other),
    }
}

/// An action without variables.
pub(super) fn literal_action(text: &str) -> Result<Work, Vec<Blocked>> {
    let unreadable = |why: String| vec![Blocked::Unreadable { why }];
    let parsed: Value = serde_saphyr::from_str(text).map_err(|error| unreadable(format!("the action cannot be read: {error}")))?;
    let Value::Object(map) = parsed else { return Err(unreadable("an action is a name with arguments: `name: { … }`".to_owned())) };
    let count = map.len();
    let mut map = map.into_iter();
    let (Some((name, arguments)), 1) = (map.next(), count) else {
        return Err(unreadable(format!("{count} actions in one step; one was expected")));
    };
    if name.contains('$') {
        return Err(unreadable("which action it is cannot be a value".to_owned()));
    }
    Ok(Work::Action { name, arguments })
}

/// Values in the strings of a document; keys stay.
fn in_leaves(json: Value, values: &Values) -> Result<Value, Vec<Blocked>> {
    Ok(match json {
        Value::String(text) => Value::String(fill(&text, &[], values, |_, out, value| {
            out.push_str(value);
            Ok(())
        })?),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| in_leaves(item, values)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let filled = map.into_iter().map(|(key, value)| in_leaves(value, values).map(|value| (key, value)));
            Value::Object(filled.collect::<Result<_, Vec<Blocked>>>()?)
        }
        other => other,
    })
}
