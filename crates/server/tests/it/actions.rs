//! The actions of a real instance, against those who speak of actions: the library, the classifier, the alerts.

use std::collections::BTreeSet;
use std::sync::Arc;

use paramedic_action::catalogue::{OF_THE_INSTANCE, all};
use paramedic_action::{Actions, Effect};
use paramedic_journal::SqliteJournal;
use paramedic_model::SystemClock;
use paramedic_runbook::library::LIBRARY;
use paramedic_runbook::lint::{Known, KnownAction, lint_alerts, lint_with};
use paramedic_runbook::{Document, Executor, classify, parse};
use paramedic_server::{Settings, actions_of};

async fn instance() -> Actions {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap());
    actions_of(&Settings::default(), journal, Arc::new(SystemClock)).await.unwrap()
}

fn library() -> Vec<Document> {
    LIBRARY.iter().map(|(name, text)| parse(text, &format!("{name}.md"))).collect()
}

#[tokio::test]
async fn the_catalogue_lists_the_actions_of_an_instance_each_once() {
    let actions = instance().await;
    let carried: Vec<&str> = actions.specs().chain(OF_THE_INSTANCE).map(|spec| spec.name).collect();
    let named: BTreeSet<&str> = carried.iter().copied().collect();
    assert_eq!(named.len(), carried.len(), "an action of each name: {carried:?}");
    assert_eq!(named, all().iter().map(|spec| spec.name).collect());
    for spec in all() {
        let arguments: BTreeSet<&str> = spec.arguments.iter().map(|argument| argument.name).collect();
        assert_eq!(arguments.len(), spec.arguments.len(), "{}: an argument of each name", spec.name);
        assert!(!spec.summary.is_empty() && !spec.undo.is_empty(), "{}: says what it does and how it is undone", spec.name);
    }
}

#[tokio::test]
async fn every_action_of_the_library_exists_and_takes_what_it_is_given() {
    let actions = instance().await;
    let known = |spec: &'static paramedic_action::Spec| {
        let names = |required| spec.arguments.iter().filter(move |one| one.required == required).map(|one| one.name).collect::<Vec<_>>();
        KnownAction::new(spec.name, &names(true), &names(false))
    };
    let known = Known { actions: actions.specs().chain(OF_THE_INSTANCE).map(known).collect(), ..Known::default() };
    let documents = library();
    let steps = documents.iter().flat_map(|document| &document.runbooks).flat_map(|runbook| &runbook.steps);
    assert!(steps.filter(|step| step.executor == Executor::Action).count() > 50);
    let wrong: Vec<String> = documents
        .iter()
        .flat_map(|document| lint_with(document, &known).into_iter().map(move |finding| (&document.file, finding)))
        .filter(|(_, finding)| ["unknown-action", "action-arguments"].contains(&finding.rule.as_str()))
        .map(|(file, finding)| format!("{file}:{} {} {}: {}", finding.line, finding.rule, finding.text, finding.why))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What runs by itself and what two people have to agree to is decided by the classifier: it may not think less of an action
/// than the action does of itself.
#[test]
fn the_classifier_takes_every_action_for_what_it_says_it_is() {
    let wrong: Vec<String> = all()
        .into_iter()
        .filter_map(|spec| {
            let said = match spec.effect {
                Effect::Read => classify::Effect::Read,
                Effect::Write => classify::Effect::Write,
                Effect::Destroy => classify::Effect::Destroy,
            };
            let (taken, _) = classify::action_effect(&format!("{}: {{}}", spec.name));
            (taken != said).then(|| format!("{} is {said:?} and taken for {taken:?}", spec.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_of_the_embedded_rules_has_a_runbook() {
    let settings = Settings::default();
    let mut alerts = Vec::new();
    for (name, text) in paramedic_rules::pack::texts(&settings.rules) {
        let file = paramedic_rules::parse(&text, &name).unwrap();
        let rules = file.groups.into_iter().flat_map(|group| group.rules);
        let alerting = rules.filter(|rule| rule.kind == paramedic_rules::RuleKind::Alerting);
        alerts.extend(alerting.map(|rule| (rule.name, rule.annotations.get("runbook").cloned())));
    }
    assert!(alerts.len() >= 141, "{} alerts", alerts.len());
    let documents = library();
    let runbooks: Vec<_> = documents.iter().flat_map(|document| &document.runbooks).collect();
    assert_eq!(lint_alerts(&alerts, &runbooks), []);
    // The same look is able to find one.
    alerts.push(("NobodyKnows".to_owned(), None));
    assert_eq!(lint_alerts(&alerts, &runbooks).len(), 1);
}
