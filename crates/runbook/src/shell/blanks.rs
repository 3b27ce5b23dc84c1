//! Texts in a word that stand for others.

/// Words of templates that are no names.
const TEMPLATE_WORDS: &[&str] = &["else", "end", "json", "if", "range", "with", "println", "print"];

/// What a person would have to replace in a word, as it stands there.
pub(super) fn blanks(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |blank: &str| {
        if !found.iter().any(|known| known == blank) {
            found.push(blank.to_owned());
        }
    };
    for (at, _) in text.match_indices("{{") {
        let Some(length) = text[at..].find("}}").filter(|length| *length <= 60) else { continue };
        let name = text[at + 2..at + length].trim();
        let plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'));
        if plain && !TEMPLATE_WORDS.contains(&name) {
            add(&text[at..at + length + 2]);
        }
    }
    let mut from = 0;
    for token in text.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '$'))) {
        let at = from;
        from = at + token.len() + text[at + token.len()..].chars().next().map_or(0, char::len_utf8);
        if stands_for_another(token) || is_id_of_a_path(text, at, token) {
            add(token);
        }
    }
    found
}

fn stands_for_another(token: &str) -> bool {
    let lower = token.to_ascii_lowercase();
    let loud = token.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
    let told = (loud && ["YOUR_", "NEW_"].iter().any(|start| token.starts_with(start) && token.len() > start.len()))
        || (["your-", "your_"].iter().any(|start| lower.starts_with(start)) && lower.len() > 5)
        || ["changeme", "change_me", "change-me", "replaceme", "replace_me", "replace-me"].contains(&lower.as_str());
    let crossed_out = |part: &str| part.len() >= 4 && part.bytes().all(|byte| byte == b'x' || byte == b'X');
    !token.starts_with('$') && (told || token.split(['-', '_']).any(crossed_out))
}

/// `https://host/incidents/ID`.
fn is_id_of_a_path(text: &str, at: usize, token: &str) -> bool {
    token == "ID" && text.starts_with("http") && text[..at].ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::blanks;

    #[test]
    fn texts_that_stand_for_others_are_seen() {
        let cases: &[(&str, &[&str])] = &[
            ("ghcr.io/your-org/agent:tag", &["your-org"]),
            ("sg-xxxxx", &["sg-xxxxx"]),
            ("key=YOUR_API_KEY", &["YOUR_API_KEY"]),
            ("{{pod}}/{{ node-name }}", &["{{pod}}", "{{ node-name }}"]),
            ("{{.State}} {{json .}} {{end}} $YOUR_KEY maxmemory xxx example.com", &[]),
            ("https://status.example/api/incidents/ID", &["ID"]),
            ("ID", &[]),
            ("changeme", &["changeme"]),
        ];
        for (text, expect) in cases {
            assert_eq!(blanks(text), *expect, "{text}");
        }
        let words = |script: &str| parse(script)[0].commands[0].words.clone();
        assert_eq!(words("redis-cli DEL \"agent:<agent_id>:x\"")[2].placeholders, ["agent_id"]);
        assert_eq!(words("grep '<agent-name>' f")[1].placeholders, ["agent-name"]);
        assert!(words("grep '<b>x</b> <title>' f")[1].placeholders.is_empty());
    }
}
