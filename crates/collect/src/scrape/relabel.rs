//! Relabeling, as in Prometheus: rules that change, keep or drop label sets.
//!
//! `hashmod` is not there: the shards of a fleet of collectors are not our business.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relabel {
    /// Labels whose values are joined and matched. Default none.
    pub source_labels: Vec<String>,
    /// Stands between the joined values. Default `;`.
    pub separator: String,
    /// The label that is written, for the actions that write one. Default none.
    pub target_label: String,
    /// Matched against the whole of the joined values, or of each label's name. Default `(.*)`.
    pub regex: String,
    /// What is written; `$1` and `${name}` stand for groups of the expression. Default `$1`.
    pub replacement: String,
    /// What is done. Default `replace`.
    pub action: Action,
}

impl Default for Relabel {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: "(.*)".to_owned(),
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Rules in their order, ready to be applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules(Vec<(Relabel, Regex)>);

impl Rules {
    pub(crate) fn new(rules: &[Relabel]) -> Result<Self, String> {
        let compiled = rules.iter().map(|rule| {
            let writes =
                matches!(rule.action, Action::Replace | Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual);
            if writes && rule.target_label.is_empty() {
                return Err(format!("the relabeling {:?} has no target_label", rule.action));
            }
            let regex = regex::RegexBuilder::new(&format!("^(?s:{})$", rule.regex)).size_limit(REGEX_BYTES_MAX).build();
            let regex = regex.map_err(|_| format!("the expression {:?} of a relabeling cannot be used", rule.regex))?;
            Ok((rule.clone(), regex))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes the labels; false means that they are dropped.
    pub(crate) fn apply(&self, labels: &mut BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(rule, regex)| apply(rule, regex, labels))
    }
}

fn apply(rule: &Relabel, regex: &Regex, labels: &mut BTreeMap<String, String>) -> bool {
    let value_of = |name: &str| labels.get(name).map_or("", String::as_str);
    let joined = rule.source_labels.iter().map(|name| value_of(name)).collect::<Vec<_>>().join(&rule.separator);
    match rule.action {
        Action::Keep => return regex.is_match(&joined),
        Action::Drop => return !regex.is_match(&joined),
        Action::KeepEqual => return value_of(&rule.target_label) == joined,
        Action::DropEqual => return value_of(&rule.target_label) != joined,
        Action::Lowercase => set(labels, &rule.target_label, joined.to_lowercase()),
        Action::Uppercase => set(labels, &rule.target_label, joined.to_uppercase()),
        Action::LabelDrop => labels.retain(|name, _| !regex.is_match(name)),
        Action::LabelKeep => labels.retain(|name, _| regex.is_match(name)),
        Action::LabelMap => {
            let matching = labels.iter().filter_map(|(name, value)| {
                let found = regex.captures(name)?;
                Some((expand(&found, &rule.replacement), value.clone()))
            });
            let mapped: Vec<(String, String)> = matching.collect();
            labels.extend(mapped);
        }
        Action::Replace => {
            if let Some(found) = regex.captures(&joined) {
                let target = expand(&found, &rule.target_label);
                if !target.is_empty() {
                    set(labels, &target, expand(&found, &rule.replacement));
                }
            }
        }
    }
    true
}

fn expand(found: &regex::Captures<'_>, template: &str) -> String {
    let mut text = String::new();
    found.expand(template, &mut text);
    text
}

/// An empty value removes the label.
fn set(labels: &mut BTreeMap<String, String>, name: &str, value: String) {
    if value.is_empty() {
        labels.remove(name);
    } else {
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, before: &[(&str, &str)], after: Option<&[(&str, &str)]>) {
        let rules: Vec<Relabel> = serde_saphyr::from_str(rules).unwrap();
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut labels = owned(before);
        let kept = Rules::new(&rules).unwrap().apply(&mut labels);
        assert_eq!(kept.then_some(labels), after.map(owned));
    }

    #[test]
    fn rules_do_what_they_do_in_prometheus() {
        let labels: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
        check("[{action: drop, source_labels: [a], regex: foo}]", labels, None);
        check("[{action: drop, source_labels: [a], regex: fo}]", labels, Some(labels));
        check("[{action: keep, source_labels: [a, b], regex: 'foo;b.*'}]", labels, Some(labels));
        check("[{action: keep, source_labels: [a, b], separator: '-', regex: 'foo;.*'}]", labels, None);
        check(
            "[{source_labels: [a], regex: 'f(.*)', target_label: 'd', replacement: 'ch${1}-ch${1}'}]",
            &[("a", "foo")],
            Some(&[("a", "foo"), ("d", "choo-choo")]),
        );
        check("[{source_labels: [a], regex: nope, target_label: d, replacement: x}]", &[("a", "foo")], Some(&[("a", "foo")]));
        check("[{target_label: a, replacement: ''}]", &[("a", "foo"), ("b", "x")], Some(&[("b", "x")]));
        check("[{source_labels: [a], target_label: '${1}', replacement: v}]", &[("a", "foo")], Some(&[("a", "foo"), ("foo", "v")]));
        check(
            "[{action: labelmap, regex: '__meta_(.+)'}]",
            &[("__meta_zone", "z"), ("a", "1")],
            Some(&[("__meta_zone", "z"), ("a", "1"), ("zone", "z")]),
        );
        check("[{action: labeldrop, regex: 'a|b'}]", labels, Some(&[("c", "baz")]));
        check("[{action: labelkeep, regex: 'a|b'}]", labels, Some(&[("a", "foo"), ("b", "bar")]));
        check("[{action: uppercase, source_labels: [a], target_label: a}]", &[("a", "foo")], Some(&[("a", "FOO")]));
        check("[{action: dropequal, source_labels: [a], target_label: b}]", &[("a", "x"), ("b", "x")], None);
        check("[{action: keepequal, source_labels: [a], target_label: b}]", &[("a", "x"), ("b", "y")], None);
    }

    #[test]
    fn what_cannot_work_is_named() {
        for (rule, part) in [("[{regex: '('}]", "target_label"), ("[{regex: '(', target_label: a}]", "cannot be used")] {
            let rules: Vec<Relabel> = serde_saphyr::from_str(rule).unwrap();
            let error = Rules::new(&rules).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
