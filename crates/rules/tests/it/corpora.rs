//! Rule files of other people: they load, and the verdict is promtool's.

use paramedic_rules::{RuleKind, check};

use crate::programs::{promtool, shared, yaml_files};

#[test]
fn every_public_rule_file_loads() {
    let Some(folder) = shared("rules") else { return };
    let (mut alerts, mut records, mut files) = (0, 0, 0);
    for path in yaml_files(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = check(&text, &path.display().to_string());
        let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        for rule in checked.file.unwrap().groups.iter().flat_map(|group| &group.rules) {
            match rule.kind {
                RuleKind::Alerting => alerts += 1,
                RuleKind::Recording => records += 1,
            }
        }
        files += 1;
    }
    println!("{files} files, {alerts} alerts, {records} recording rules");
    assert!(files >= 120 && alerts >= 1_093 && records >= 95, "{files} {alerts} {records}");
}

/// The rules of a Kubernetes object as a plain rule file.
fn plain(text: &str) -> String {
    let Some((_, spec)) = text.split_once("\nspec:\n") else { return text.to_owned() };
    spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn promtool_says_the_same_of_every_public_rule_file() {
    let Some(folder) = shared("rules") else { return };
    let temp = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (i, path) in yaml_files(&folder).iter().enumerate() {
        let name = temp.path().join(format!("{i}.yml"));
        std::fs::write(&name, plain(&std::fs::read_to_string(path).unwrap())).unwrap();
        names.push(name);
    }
    let mut args = vec!["check", "rules", "--lint=none"];
    args.extend(names.iter().map(|name| name.to_str().unwrap()));
    let Some(output) = promtool(&args) else { return };
    let shown = String::from_utf8_lossy(&output.stdout);
    let accepted: usize = shown.matches("SUCCESS:").count();
    // Where promtool finds a defect, so must we; `every_public_rule_file_loads` says that we find none.
    assert_eq!(accepted, names.len(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let found = |line: &str| line.trim().strip_prefix("SUCCESS: ")?.split_whitespace().next()?.parse::<usize>().ok();
    let theirs: usize = shown.lines().filter_map(found).sum();
    let ours: usize = names
        .iter()
        .map(|name| {
            check(&std::fs::read_to_string(name).unwrap(), "x").file.unwrap().groups.iter().map(|group| group.rules.len()).sum::<usize>()
        })
        .sum();
    assert_eq!(ours, theirs, "as many rules as promtool counts");
}
