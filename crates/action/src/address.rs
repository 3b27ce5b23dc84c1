//! Addresses of servers, which may hold a password: what is said about them never does.

use paramedic_model::{secret, text};

use crate::error::ActionError;

/// Bytes of what a server says that are repeated.
const SAID_BYTES_MAX: usize = 600;
/// Shorter passwords are not looked for in texts: they would be found in every word.
const PASSWORD_BYTES_MIN: usize = 3;

/// A text that may repeat what the address holds, fit to be shown: one line, capped, without secrets.
pub(crate) fn shown(said: &str, password: Option<&str>) -> String {
    let masked = secret::mask(said);
    let without = match password.filter(|password| password.len() >= PASSWORD_BYTES_MIN) {
        Some(password) => masked.replace(password, "***"),
        None => masked.into_owned(),
    };
    text::one_line(&text::capped(&without, SAID_BYTES_MAX)).into_owned()
}

/// The setting of this name is needed and empty.
pub(crate) fn not_set(action: &str, setting: &str) -> ActionError {
    ActionError::NotSetUp { action: action.to_owned(), why: format!("the setting {setting} is empty") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_password() {
        let said = "connect to redis://u:hunter22@h failed: hunter22 is wrong\r\nFLUSHALL";
        assert_eq!(shown(said, Some("hunter22")), "connect to redis://u:***@h failed: *** is wrong  FLUSHALL");
    }
}
