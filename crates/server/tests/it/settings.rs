use paramedic_server::Settings;
use paramedic_server::settings::DEFAULT_TOML;

#[test]
fn the_default_file_says_what_the_program_does() {
    assert_eq!(Settings::parse(DEFAULT_TOML).unwrap(), Settings::default());
}

/// The keys that the settings know beside this one.
fn known_keys(text: &str) -> Vec<String> {
    let error = Settings::parse(text).unwrap_err();
    let list = error.split("expected one of").nth(1).or_else(|| error.split("expected").nth(1)).unwrap_or_else(|| panic!("{error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// serde names every key of a section when it meets an unknown one; each must be in the file, those of the gateway's inner
/// sections too.
#[test]
fn the_default_file_names_every_key() {
    let file: toml::Table = DEFAULT_TOML.parse().unwrap();
    let sections = known_keys("no_such_key = 1");
    assert!(sections.len() >= 10, "{sections:?}");
    let root = toml::Value::Table(file);
    let mut left: Vec<String> = sections;
    let mut seen = 0;
    while let Some(section) = left.pop() {
        let table =
            section.split('.').try_fold(&root, |table, key| table.get(key)).unwrap_or_else(|| panic!("default.toml lacks [{section}]"));
        let keys = known_keys(&format!("[{section}]\nno_such_key = 1"));
        assert!(!keys.is_empty(), "{section}");
        for key in keys {
            let value = table.get(&key).unwrap_or_else(|| panic!("default.toml lacks {section}.{key}"));
            if section == "gateway" && value.is_table() {
                left.push(format!("{section}.{key}"));
            }
        }
        seen += usize::from(section.starts_with("gateway."));
    }
    assert!(seen >= 8, "{seen} inner sections of the gateway");
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let error = Settings::parse("[incidents]\nquiet_window_s = 60\nquiet_windw_s = 60\n").unwrap_err();
    assert!(error.contains("line 3") && error.contains("quiet_windw_s") && error.contains("quiet_window_s"), "{error}");
    let error = Settings::parse("[incidents]\nquiet_window_s = \"soon\"\n").unwrap_err();
    assert!(error.contains("line 2") && error.contains("invalid type"), "{error}");
}

#[test]
fn a_public_address_needs_a_decision() {
    let settings = |listen: &str| Settings::parse(&format!("[listen]\n{listen}")).unwrap();
    assert!(settings("http = \"0.0.0.0:3333\"").listen.address("http").unwrap_err().to_string().contains("allow_public"));
    assert!(settings("http = \"0.0.0.0:3333\"\nallow_public = true").listen.address("http").unwrap().is_some());
    assert!(settings("http = \"localhost\"").listen.address("http").is_err());
    assert!(settings("otlp_grpc = \"\"").listen.address("otlp_grpc").unwrap().is_none());
}

/// What the page about runbooks shows as settings can be used as it stands, and speaks of a cause and a step that there are.
#[test]
fn the_policy_in_the_documentation_fits_the_library() {
    let page = include_str!("../../../../docs/runbooks.md");
    let mut blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let settings = Settings::parse(blocks.next().unwrap()).unwrap();
    let [policy] = settings.runbook.policies.as_slice() else { panic!("{:?}", settings.runbook.policies) };
    let text = paramedic_runbook::library::find(&policy.runbook).unwrap();
    let runbook = paramedic_runbook::parse(text, "library").runbooks.remove(0);
    let step = runbook.steps.iter().find(|step| step.name == policy.steps[0]).unwrap();
    assert_eq!(step.cause.as_deref(), Some(policy.cause.as_str()));
    assert!(step.attributes.contains_key("auto"));
}
