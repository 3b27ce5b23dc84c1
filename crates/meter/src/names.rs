//! Label values: masked, capped, and not more of them than allowed.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_model::secret::mask;
use paramedic_model::text::{head, one_line};
use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// Bytes of a label value.
const VALUE_BYTES_MAX: usize = 128;
/// What a value is counted as when there is no room for it.
pub(crate) const OTHER: &str = "other";

/// What a value names; each kind has a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Agent,
    User,
    Tool,
    Model,
    Project,
    McpServer,
    /// Reasons, triggers, classes of foreign errors.
    Word,
}

const KINDS: usize = 7;
const WORDS_MAX: usize = 64;

/// The values in use, with when each was last used (milliseconds).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    used: [HashMap<Arc<str>, i64>; KINDS],
    #[serde(skip)]
    max: [usize; KINDS],
    /// Values that became `other`.
    #[serde(skip)]
    pub(crate) overflowed: u64,
}

impl Names {
    pub(crate) fn set_bounds(&mut self, settings: &Settings) {
        let Settings { agents_max, users_max, tools_max, models_max, projects_max, mcp_servers_max, .. } = *settings;
        self.max = [agents_max, users_max, tools_max, models_max, projects_max, mcp_servers_max, WORDS_MAX];
    }

    /// The label value for a foreign text; empty for an empty one.
    pub(crate) fn admit(&mut self, kind: Kind, text: &str, now_ms: i64) -> Arc<str> {
        let used = &mut self.used[kind as usize];
        // A value that is in the set was clean when it came in.
        if let Some((known, at)) = used.get_key_value(text).map(|(known, at)| (Arc::clone(known), *at)) {
            if at != now_ms {
                used.insert(Arc::clone(&known), now_ms);
            }
            return known;
        }
        let clean = clean(text);
        if clean.is_empty() {
            return clean.into();
        }
        if used.len() >= self.max[kind as usize] && !used.contains_key(&*clean) {
            self.overflowed += 1;
            return OTHER.into();
        }
        let value: Arc<str> = clean.into();
        used.insert(Arc::clone(&value), now_ms);
        value
    }

    /// Frees the room of values that nothing used since.
    pub(crate) fn forget(&mut self, agents_before_ms: i64, others_before_ms: i64) {
        for (place, used) in self.used.iter_mut().enumerate() {
            let before = if place == Kind::Agent as usize { agents_before_ms } else { others_before_ms };
            used.retain(|_, at| *at >= before);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self, kind: Kind) -> usize {
        self.used[kind as usize].len()
    }
}

/// Cut first, so that a mask looks at little; a secret that the cut falls into keeps a beginning that is masked all the same.
fn clean(text: &str) -> String {
    let cut = head(text, 4 * VALUE_BYTES_MAX);
    head(one_line(&mask(cut)).trim(), VALUE_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(agents_max: usize) -> Names {
        let mut names = Names::default();
        names.set_bounds(&Settings { agents_max, ..Settings::default() });
        names
    }

    #[test]
    fn values_are_masked_capped_and_one_line() {
        let mut names = names(10);
        let secret = format!("sk-ant-api03-{}", "x".repeat(40));
        assert!(!names.admit(Kind::User, &secret, 0).contains("xxxx"));
        assert_eq!(names.admit(Kind::Tool, &"é".repeat(500), 0).len(), VALUE_BYTES_MAX);
        assert_eq!(&*names.admit(Kind::Tool, "a\u{1f}b\n", 0), "a b");
        assert_eq!(&*names.admit(Kind::Tool, " \n ", 0), "");
    }

    #[test]
    fn beyond_the_bound_everything_is_other_until_somebody_is_forgotten() {
        let mut names = names(2);
        assert_eq!(&*names.admit(Kind::Agent, "a", 1), "a");
        assert_eq!(&*names.admit(Kind::Agent, "b", 5), "b");
        assert_eq!(&*names.admit(Kind::Agent, "c", 6), OTHER);
        assert_eq!(&*names.admit(Kind::Agent, "a", 7), "a");
        assert_eq!(names.overflowed, 1);
        names.forget(6, 0);
        assert_eq!(names.len(Kind::Agent), 1);
        assert_eq!(&*names.admit(Kind::Agent, "c", 8), "c");
    }
}
