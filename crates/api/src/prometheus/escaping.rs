//! Names in UTF-8 where a place allows only letters, digits and underscores (Prometheus's `values` escaping).

/// Reads `U__my_2e_name` as `my.name`; a name that is not escaped, or not rightly, stays as it is.
pub(super) fn unescape(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    unescape_rest(rest).unwrap_or_else(|| name.to_owned())
}

fn unescape_rest(mut rest: &str) -> Option<String> {
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (code, after) = rest.split_once('_')?;
        let plain = !code.is_empty() && code.len() <= 6 && code.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        out.push(plain.then(|| u32::from_str_radix(code, 16).ok().and_then(char::from_u32)).flatten()?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// Whether a name needs no quotes; the names of metrics may have colons.
pub(super) fn is_plain(name: &str, metric: bool) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || metric && byte == b':';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(inner)
}

/// A name with everything that is not allowed replaced by an underscore.
pub(super) fn underscored(name: &str, metric: bool) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || metric && c == ':';
    let plain: String = name.chars().map(|c| if inner(c) { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{}", &plain[1..]) } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        for (name, read) in [
            ("job", "job"),
            ("U__my_2e_name", "my.name"),
            ("U__with__two", "with_two"),
            ("U___1f600_", "\u{1f600}"),
            ("U__broken_2e", "U__broken_2e"),
            ("U__no_XX_hex", "U__no_XX_hex"),
            ("U__surrogate_d800_", "U__surrogate_d800_"),
        ] {
            assert_eq!(unescape(name), read);
        }
        assert_eq!(underscored("my.metric:x", true), "my_metric:x");
        assert_eq!(underscored("1a:b", false), "_a_b");
        assert!(is_plain("a:b", true) && !is_plain("a:b", false) && !is_plain("1a", true) && !is_plain("", true));
    }
}
