//! The embedded rules: alerts for agents, for what they run on, and for Paramedic itself.

use std::collections::BTreeMap;

use crate::config::Settings;
use crate::file::{Checked, check};
use crate::problem::{Level, Problem};
use crate::thresholds;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        /// The files by name, as they are written: places for thresholds are not filled.
        pub const FILES: &[(&str, &str)] = &[$((concat!("pack/", $name), include_str!(concat!("../pack/", $name)))),+];
    };
}

embedded!(
    "agents-slo.yaml",
    "agents.yaml",
    "containers.yaml",
    "cost.yaml",
    "endpoints.yaml",
    "gateway.yaml",
    "host.yaml",
    "mcp.yaml",
    "memory-daemon.yaml",
    "model-api.yaml",
    "paramedic.yaml",
    "postgres.yaml",
    "process.yaml",
    "recording-agents.yaml",
    "recording-memory-daemon.yaml",
    "redis.yaml",
    "security.yaml",
    "stuck.yaml",
    "webhooks.yaml",
);

/// The embedded files with their thresholds filled: rule files that Prometheus takes too.
pub fn texts(settings: &Settings) -> Vec<(String, String)> {
    FILES.iter().map(|(name, text)| ((*name).to_owned(), thresholds::fill(text, &settings.thresholds))).collect()
}

/// The names of all thresholds with their defaults.
pub fn threshold_defaults() -> BTreeMap<String, String> {
    FILES.iter().flat_map(|(_, text)| thresholds::names(text)).collect()
}

/// The embedded files as they are loaded: without the alerts that the settings leave out.
pub(crate) fn load(settings: &Settings) -> Vec<(String, Checked)> {
    let mut loaded = Vec::new();
    for (name, text) in texts(settings) {
        let mut checked = check(&text, &name);
        for group in checked.file.iter_mut().flat_map(|file| &mut file.groups) {
            group.rules.retain(|rule| !settings.pack_disabled.contains(&rule.name));
        }
        loaded.push((name, checked));
    }
    loaded
}

/// Settings about the embedded rules that mean nothing.
pub(crate) fn misnamed(settings: &Settings) -> Vec<Problem> {
    let known = threshold_defaults();
    let thresholds = settings.thresholds.keys().filter(|name| !known.contains_key(*name)).map(|name| ("thresholds", name));
    let has = |name: &String| {
        FILES.iter().any(|(_, text)| {
            text.lines().any(|line| line.trim_start_matches([' ', '-']).strip_prefix("alert:").is_some_and(|rest| rest.trim() == name))
        })
    };
    let alerts = settings.pack_disabled.iter().filter(|name| !has(name)).map(|name| ("pack_disabled", name));
    thresholds
        .chain(alerts)
        .map(|(key, name)| Problem {
            level: Level::Note,
            file: "settings".to_owned(),
            line: 1,
            column: 1,
            group: None,
            rule_number: None,
            rule: None,
            key: Some(key.to_owned()),
            message: format!("no embedded rule has {name:?}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_and_good() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pack");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("pack/{}", entry.unwrap().file_name().to_string_lossy()))
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        names.sort();
        assert_eq!(FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>(), names);
        for (name, checked) in load(&Settings::default()) {
            let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
        }
    }

    #[test]
    fn thresholds_have_one_default_each() {
        let mut defaults: BTreeMap<String, String> = BTreeMap::new();
        for (file, text) in FILES {
            for (name, default) in thresholds::names(text) {
                let known = defaults.entry(name.clone()).or_insert_with(|| default.clone());
                assert_eq!(*known, default, "{name} in {file}");
            }
            let filled = thresholds::fill(text, &BTreeMap::new());
            let open = filled.match_indices("${").filter(|(at, _)| !filled[*at..].starts_with("${{")).count();
            assert_eq!(open, 0, "{file} has a place that cannot be filled");
        }
        let settings = Settings {
            thresholds: BTreeMap::from([("nobody".to_owned(), 1.0)]),
            pack_disabled: vec!["Nobody".to_owned()],
            ..Settings::default()
        };
        assert_eq!(misnamed(&settings).len(), 2);
    }
}
