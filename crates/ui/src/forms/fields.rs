//! The fields of a form whose names are not all known beforehand.

use std::collections::BTreeMap;

use axum::body::Body;
use paramedic_api::ApiError;

/// What a form sent, in its order.
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    pub(crate) async fn read(body: Body) -> Result<Self, ApiError> {
        super::read_as(&super::bytes_of(body).await?).map(Self)
    }

    /// A field's value; empty where it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }

    /// Values whose names begin with `prefix`, by the rest of the name, without the empty ones.
    pub(crate) fn all(&self, prefix: &str) -> BTreeMap<String, String> {
        let named = self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())));
        named.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The page to go back to: one of ours, or none.
    pub(crate) fn back(&self) -> Option<String> {
        own_path(self.get("back"))
    }
}

/// A path on this server, without what was said there last.
pub(crate) fn own_path(path: &str) -> Option<String> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"');
    if !path.starts_with('/') || path.starts_with("//") || !plain || path.len() > 500 {
        return None;
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("done=")).collect();
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

/// The path with what was done, for the page to say.
pub(crate) fn saying(path: &str, done: &str) -> String {
    let (path, part) = path.split_once('#').map_or((path, None), |(path, part)| (path, Some(part)));
    let joint = if path.contains('?') { '&' } else { '?' };
    let part = part.map(|part| format!("#{part}")).unwrap_or_default();
    format!("{path}{joint}done={done}{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_are_gone_back_to() {
        for (given, expect) in [
            ("/incidents/INC-1", Some("/incidents/INC-1")),
            ("/incidents/INC-1?run=RUN-2&done=approve", Some("/incidents/INC-1?run=RUN-2")),
            ("//evil.example/", None),
            ("https://evil.example/", None),
            ("/\\evil.example", None),
            ("/a\r\nset-cookie: x", None),
            ("", None),
        ] {
            assert_eq!(own_path(given).as_deref(), expect, "{given}");
        }
        assert_eq!(saying("/runs/RUN-1?x=1#fix", "again"), "/runs/RUN-1?x=1&done=again#fix");
    }
}
