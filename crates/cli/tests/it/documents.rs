//! Documents that the program prints are committed as it prints them.

use std::process::Command;

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_paramedic")).args(arguments).output().expect("paramedic starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn committed(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn generated_documents_are_fresh() {
    for (file, document) in [
        ("docs/configuration.md", "reference"),
        ("docs/openapi.json", "openapi"),
        ("docs/actions.md", "actions"),
        ("docs/runbook-lint.md", "runbook-lint"),
    ] {
        assert!(committed(file) == printed(&["config", document]), "{file} is stale: write it anew with `cargo xtask gen`");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("paramedic"), "{shell}");
    }
}

/// Pages for people name only verbs and options that exist.
#[test]
fn every_command_of_the_readme_parses() {
    for (page, least) in [("README.md", 10), ("docs/gateway.md", 6)] {
        let seen = commands_that_parse(page);
        assert!(seen >= least, "{page}: {seen} commands found");
    }
}

fn commands_that_parse(page: &str) -> usize {
    let text = committed(page);
    let mut seen = 0;
    for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
        let Some(words) = line.rsplit("| ").next().and_then(|last| last.strip_prefix("paramedic ")) else { continue };
        let Some(verb) = words.split_whitespace().next().filter(|verb| !verb.starts_with('-') && !verb.contains('`')) else { continue };
        let help = Command::new(env!("CARGO_BIN_EXE_paramedic")).args([verb, "--help"]).output().expect("paramedic starts");
        assert!(help.status.success(), "{page}: `{line}`");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for option in words.split_whitespace().filter(|word| word.starts_with("--")) {
            let named = help.contains(option) || printed(&["connect", "claude-code", "--help"]).contains(option);
            assert!(named, "{page}: `{line}`: {verb} has no {option}");
        }
        seen += 1;
    }
    seen
}
