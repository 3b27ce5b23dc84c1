//! What the pages for people say of the gateway is so.

use std::path::Path;
use std::sync::Arc;

use paramedic_gateway::{Gateway, Parts, Pricing, Settings};
use paramedic_model::switch::{FLAG_NAMES, KNOWN, ValueKind};
use paramedic_model::{SystemClock, Usage};
use prometheus_client::registry::Registry;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table under this heading of a page, as cells.
fn table<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rest = page.split_once(head).unwrap_or_else(|| panic!("no table {head}")).1;
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_page_lists_every_switch_as_it_is() {
    let page = document("gateway.md");
    let told = table(&page, "| switch | value | what it does |");
    let known: Vec<Vec<String>> = KNOWN
        .iter()
        .map(|known| {
            let value = match known.kind {
                ValueKind::Flag => "true, false".to_owned(),
                ValueKind::Count => "whole number".to_owned(),
                ValueKind::Amount => "dollars".to_owned(),
                ValueKind::Text => "name".to_owned(),
                ValueKind::Word => known.words.join(", "),
            };
            let lasting = if known.lasting { " †" } else { "" };
            vec![format!("`{}`", known.name), value, format!("{}{lasting}", known.what)]
        })
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_page_lists_every_name_that_stands_for_a_switch() {
    let page = document("gateway.md");
    let mut told: Vec<(&str, &str)> = Vec::new();
    for row in table(&page, "| name elsewhere | switch |") {
        let switch = row[1].trim_matches('`');
        told.extend(row[0].split(", ").map(|name| (name.trim_matches('`'), switch)));
    }
    let mut known = FLAG_NAMES.to_vec();
    told.sort_unstable();
    known.sort_unstable();
    assert_eq!(told, known);
}

struct Free;

impl Pricing for Free {
    fn call(&self, _: &str, _: &Usage) -> Option<u64> {
        Some(0)
    }
}

#[tokio::test]
async fn the_reference_names_every_metric_of_a_gateway() {
    let parts = Parts {
        settings: Settings::default(),
        clock: Arc::new(SystemClock),
        pricing: Arc::new(Free),
        data_dir: None,
        salt: [7; 32],
        shared: None,
    };
    let gateway = Gateway::open(parts).unwrap();
    let _events = gateway.events(8);
    let mut registry = Registry::default();
    gateway.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let reference = document("metrics.md");
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(reference.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        seen += 1;
    }
    assert!(seen > 50, "{seen} metrics:\n{text}");
}
