//! Samples, rules and targets for the made-up fleet: an hour of a gateway that begins to fail twenty minutes before "now".

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_api::instruments::Work;
use paramedic_api::query::LocalQuery;
use paramedic_api::rules::{
    AlertView, GroupView, MissingSeries, RuleBook, RuleHealth, RuleKind, RuleParts, RuleState, RuleView, WhySample, WhyView,
};
use paramedic_api::threshold::threshold_of;
use paramedic_api::{Context, Instruments};
use paramedic_model::target::TargetKind;
use paramedic_model::{AlertChange, AlertState, Fingerprint, IncidentType, RuleAlert, Severity, Target, TargetHealth, Timestamp};
use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Engine, SampleValue};
use paramedic_samples::{Key, Metadata, Sample, Samples, Settings};

use crate::stage::{HOSTILE, Stage, ago, now};

pub const ERROR_RATIO: &str =
    "sum by (job) (rate(gateway_requests_total{code=~\"5..\"}[5m])) / sum by (job) (rate(gateway_requests_total[5m]))";

impl Stage {
    /// The fleet, with samples, rules and targets.
    pub async fn with_metrics() -> Self {
        let mut stage = Self::with_fleet().await;
        stage.equip();
        stage.context.desk.apply(&[rule_alert()], ago(14)).await.expect("applies");
        stage
    }

    /// Fills a store with an hour of samples and puts everything that measures into the context.
    pub fn equip(&mut self) {
        self.equip_with(now());
    }

    /// As [`Self::equip`], with the hour before another moment.
    pub fn equip_with(&mut self, end: Timestamp) {
        let clock = Arc::clone(&self.context.clock);
        let samples = Samples::open(&self.dir.path().join("samples"), Settings::default(), clock).expect("opens");
        fill(&samples, end);
        let metrics = self.context.metrics.queries.clone();
        let query = LocalQuery::new(Arc::new(Engine::default()), samples.clone(), 4, metrics);
        let instruments = Instruments {
            query: Some(Arc::new(query)),
            samples: Some(samples),
            rules: Some(Arc::new(Book)),
            targets: vec![Arc::new(targets)],
            settings: "[samples]\nretention_h = 360\n".to_owned(),
            flags: BTreeMap::from([("query.timeout".to_owned(), "2m".to_owned())]),
            ..Instruments::default()
        };
        let context: &mut Context = Arc::get_mut(&mut self.context).expect("nobody else has it yet");
        context.instruments = instruments;
    }
}

fn ms(at: Timestamp) -> i64 {
    at.as_millis()
}

fn fill(samples: &Samples, end: Timestamp) {
    let sample = |pairs: &'static [(&'static str, &'static str)], at: Timestamp, value: f64| Sample {
        series: Key::Pairs(pairs),
        time: ms(at),
        value: SampleValue::Float(value),
    };
    let (mut good, mut bad) = (0.0, 0.0);
    for step in 0..=240u64 {
        let at = end.before(std::time::Duration::from_secs(3_600)).after(std::time::Duration::from_secs(step * 15));
        let failing = step >= 160;
        let wave = 40.0 + 15.0 * (f64::from(u32::try_from(step).expect("small")) / 20.0).sin();
        good += if failing { wave * 0.7 } else { wave };
        bad += if failing { wave * 0.3 } else { 0.2 };
        let batch = [
            sample(&[("__name__", "gateway_requests_total"), ("job", "gateway"), ("instance", "gw-1:9090"), ("code", "200")], at, good),
            sample(&[("__name__", "gateway_requests_total"), ("job", "gateway"), ("instance", "gw-1:9090"), ("code", "529")], at, bad),
            sample(&[("__name__", "up"), ("job", "gateway"), ("instance", "gw-1:9090")], at, 1.0),
            sample(&[("__name__", "up"), ("job", "postgres"), ("instance", "db-1:5432")], at, f64::from(u8::from(!failing))),
            sample(&[("__name__", "agent_queue_depth"), ("queue", "default")], at, (wave - 30.0).round()),
            sample(&[("__name__", "agent_queue_depth"), ("queue", "batch")], at, 3.0),
            sample(&[("__name__", "free_bytes"), ("device", "sda")], at, 4.2e10 - wave * 1e8),
            sample(&[("__name__", "odd.name"), ("a.b", "c\"d\\e"), ("path", HOSTILE)], at, 0.5),
        ];
        assert_eq!(samples.append(&batch).expect("appends").stored(), 8);
        let histogram = Histogram {
            count: 12.0,
            sum: 30.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: vec![(0, 4.0), (1, 6.0)],
            negative: vec![(0, 1.0)],
            ..Histogram::default()
        };
        let pairs: &[(&str, &str)] = &[("__name__", "answer_seconds"), ("job", "gateway")];
        let one = Sample { series: Key::Pairs(pairs), time: ms(at), value: SampleValue::Histogram(Arc::new(histogram)) };
        samples.append(&[one]).expect("appends");
    }
    let about = Metadata { kind: "counter".into(), help: "Requests that the gateway answered.".into(), unit: String::new() };
    samples.set_metadata("gateway_requests_total", about).expect("stores");
}

fn target(pool: &str, kind: TargetKind, address: &str, health: TargetHealth, error: &str) -> Target {
    let labels = BTreeMap::from([("job".to_owned(), pool.to_owned()), ("instance".to_owned(), address.to_owned())]);
    Target {
        pool: pool.to_owned(),
        kind,
        address: if kind == TargetKind::Scrape { format!("http://{address}/metrics") } else { address.to_owned() },
        discovered_labels: BTreeMap::from([("__address__".to_owned(), address.to_owned())]),
        labels,
        health,
        last_error: error.to_owned(),
        last_at: (health != TargetHealth::Unknown).then(|| now().before(std::time::Duration::from_secs(7))),
        last_duration_s: 0.0123,
        last_samples: 812,
        interval_s: 15.0,
        timeout_s: 10.0,
        failures: u64::from(health == TargetHealth::Down) * 82,
    }
}

fn targets() -> Vec<Target> {
    vec![
        target("gateway", TargetKind::Scrape, "gw-1:9090", TargetHealth::Up, ""),
        target("gateway", TargetKind::Scrape, "gw-2:9090", TargetHealth::Unknown, ""),
        target("postgres", TargetKind::Probe, "db-1:5432", TargetHealth::Down, "connect: connection refused"),
        target("host", TargetKind::Probe, "this machine", TargetHealth::Up, ""),
    ]
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the firing rule told the journal.
fn rule_alert() -> AlertChange {
    AlertChange {
        fingerprint: Fingerprint("rule:GatewayErrors:1a2b".to_owned()),
        detector: "rule".into(),
        agent: None,
        session: None,
        user: None,
        started_at: ago(17),
        at: ago(15),
        state: AlertState::Firing,
        severity: Some(Severity::Sev2),
        incident_type: IncidentType::ApiFailure,
        cause: "rule:GatewayErrors".to_owned(),
        reason: "30 % of the gateway's requests fail".to_owned(),
        evidence: Vec::new(),
        counts: Default::default(),
        rule: Some(Box::new(RuleAlert {
            name: "GatewayErrors".to_owned(),
            group: "gateway".to_owned(),
            labels: map(&[("alertname", "GatewayErrors"), ("job", "gateway"), ("severity", "critical")]),
            annotations: map(&[("summary", "30 % of the gateway's requests fail")]),
            expression: format!("{ERROR_RATIO} > 0.05"),
            value: Some(0.3),
        })),
    }
}

struct Book;

impl Book {
    fn alerting(name: &str, query: &str, state: RuleState) -> RuleView {
        RuleView {
            kind: RuleKind::Alerting,
            name: name.to_owned(),
            query: query.to_owned(),
            duration_s: 120.0,
            labels: map(&[("severity", "critical")]),
            annotations: map(&[("summary", "{{ $labels.job }} fails")]),
            health: RuleHealth::Ok,
            last_at: Some(now()),
            evaluation_s: 0.0004,
            state,
            ..RuleView::default()
        }
    }
}

impl RuleBook for Book {
    fn groups(&self) -> Vec<GroupView> {
        let alert = |name: &str, job: &str, state, minutes, value| AlertView {
            labels: map(&[("alertname", name), ("job", job), ("severity", "critical")]),
            annotations: map(&[("summary", "30 % of the gateway's requests fail")]),
            state,
            active_at: Some(ago(minutes)),
            value: Some(value),
            keep_firing_since: None,
        };
        let errors = RuleView {
            alerts: vec![alert("GatewayErrors", "gateway", RuleState::Firing, 17, 0.3)],
            ..Self::alerting("GatewayErrors", &format!("{ERROR_RATIO} > 0.05"), RuleState::Firing)
        };
        let mut gone = alert("TargetDown", "postgres", RuleState::Pending, 1, 0.0);
        gone.labels.insert("instance".to_owned(), "db-1:5432".to_owned());
        gone.annotations = map(&[("summary", "postgres db-1:5432 does not answer")]);
        let down = RuleView { alerts: vec![gone], ..Self::alerting("TargetDown", "up == 0", RuleState::Pending) };
        let dead = RuleView {
            missing: vec![MissingSeries {
                selector: "queue_jobs_waiting{queue=\"x\"}".to_owned(),
                metric: "queue_jobs_waiting".to_owned(),
                recorded_by: None,
            }],
            ..Self::alerting("QueueTooLong", "queue_jobs_waiting{queue=\"x\"} > 100", RuleState::Inactive)
        };
        let broken = RuleView {
            health: RuleHealth::Err,
            last_error: Some("found duplicate series for the match group {job=\"gateway\"}".to_owned()),
            ..Self::alerting("Ambiguous", "up / on(job) up > 1", RuleState::Inactive)
        };
        let recorded = RuleView {
            kind: RuleKind::Recording,
            name: "job:gateway_errors:ratio5m".to_owned(),
            query: ERROR_RATIO.to_owned(),
            health: RuleHealth::Ok,
            last_at: Some(now()),
            evaluation_s: 0.0002,
            ..RuleView::default()
        };
        let group = |name: &str, rules| GroupView {
            name: name.to_owned(),
            file: "/etc/paramedic/rules/gateway.yml".to_owned(),
            interval_s: 30.0,
            rules,
            last_at: Some(now()),
            evaluation_s: 0.0011,
            ..GroupView::default()
        };
        vec![group("gateway", vec![errors, recorded]), group("targets", vec![down, dead, broken])]
    }

    fn why(&self, alert: &str) -> Work<'_, Vec<RuleParts>> {
        let known = alert == "GatewayErrors";
        Box::pin(async move {
            let part = |expression: &str, depth, value: &str| WhyView {
                expression: expression.to_owned(),
                depth,
                samples: vec![WhySample { labels: "{job=\"gateway\"}".to_owned(), value: value.to_owned() }],
                total: 1,
                error: None,
            };
            let parts = RuleParts {
                group: "gateway".to_owned(),
                rule: self.groups()[0].rules[0].clone(),
                threshold: threshold_of(&format!("{ERROR_RATIO} > 0.05")),
                parts: vec![
                    part(&format!("{ERROR_RATIO} > 0.05"), 0, "0.3"),
                    part(ERROR_RATIO, 1, "0.3"),
                    part("sum by (job) (rate(gateway_requests_total[5m]))", 2, "2.7"),
                ],
            };
            if known { vec![parts] } else { Vec::new() }
        })
    }
}
