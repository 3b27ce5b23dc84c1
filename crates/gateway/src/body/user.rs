//! Who calls, as a body's `metadata.user_id` says it.

use std::borrow::Cow;

use serde::Deserialize;

use super::Facts;

/// A longer `user_id` is not looked into.
const USER_ID_BYTES_MAX: usize = 2048;

/// What a `user_id` says. Empty parts are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name of a user, where the id is a plain one.
    pub name: Option<Box<str>>,
    pub device: Option<Box<str>>,
    pub account: Option<Box<str>>,
    pub session: Option<Box<str>>,
}

/// What Claude Code writes into it.
#[derive(Deserialize)]
struct Written<'t> {
    #[serde(borrow, default)]
    device_id: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    account_uuid: Option<Cow<'t, str>>,
    #[serde(borrow, default)]
    session_id: Option<Cow<'t, str>>,
}

impl User {
    /// Reads Claude Code's JSON, the underscored form of its versions before 2.1, or a plain name.
    #[must_use]
    pub fn read(user_id: &str) -> Self {
        if user_id.len() > USER_ID_BYTES_MAX {
            return Self::default();
        }
        let part = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Box::from);
        if let Some(written) = user_id.starts_with('{').then(|| serde_json::from_str::<Written<'_>>(user_id).ok()).flatten() {
            let part = |text: Option<Cow<'_, str>>| text.and_then(|text| part(&text));
            return Self {
                name: None,
                device: part(written.device_id),
                account: part(written.account_uuid),
                session: part(written.session_id),
            };
        }
        let old = user_id.strip_prefix("user_").and_then(|rest| {
            let (device, rest) = rest.split_once("_account_")?;
            let (account, session) = rest.split_once("_session_")?;
            Some(Self { name: None, device: part(device), account: part(account), session: part(session) })
        });
        old.unwrap_or_else(|| Self { name: part(user_id), ..Self::default() })
    }
}

impl Facts {
    /// What `metadata.user_id` says; nothing where there is none.
    #[must_use]
    pub fn user(&self, body: &[u8]) -> User {
        self.user_id
            .filter(|place| place.bytes() <= 6 * USER_ID_BYTES_MAX as u64)
            .map(|place| User::read(&place.text(body)))
            .unwrap_or_default()
    }

    #[must_use]
    pub fn session(&self, body: &[u8]) -> Option<Box<str>> {
        self.user(body).session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_read_in_all_their_forms() {
        let user = |name: &str, device: &str, account: &str, session: &str| {
            let part = |text: &str| (!text.is_empty()).then(|| Box::from(text));
            User { name: part(name), device: part(device), account: part(account), session: part(session) }
        };
        let cases = [
            (r#"{"device_id":"d1","account_uuid":"a1","session_id":"s1"}"#, user("", "d1", "a1", "s1")),
            (r#"{"device_id":"d1","account_uuid":"","session_id":"s1","more":[1]}"#, user("", "d1", "", "s1")),
            (r#"{ "session_id" : "s\u0031" }"#, user("", "", "", "s1")),
            (r#"{"account_uuid":null}"#, user("", "", "", "")),
            ("user_d9_account_a9_session_s9", user("", "d9", "a9", "s9")),
            ("user_d9_account__session_s9", user("", "d9", "", "s9")),
            ("user_42", user("user_42", "", "", "")),
            ("ana@example.org", user("ana@example.org", "", "", "")),
            ("{broken", user("{broken", "", "", "")),
            (r#"{"session_id":7}"#, user(r#"{"session_id":7}"#, "", "", "")),
            ("", user("", "", "", "")),
        ];
        for (text, expect) in cases {
            assert_eq!(User::read(text), expect, "{text}");
        }
        assert_eq!(User::read(&"x".repeat(USER_ID_BYTES_MAX + 1)), User::default());
    }
}
