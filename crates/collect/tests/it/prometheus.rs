//! The installed Prometheus beside us: the same configuration, the same targets, the same samples.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use paramedic_collect::scrape::{Scraper, Settings, from_prometheus_yaml};
use paramedic_model::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::recorder::Recorder;

const TEXT: &str = "text/plain; version=0.0.4";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What targets show, good and bad. Where we take more than Prometheus does (blanks before a name, behind a type, and
/// carriage returns) is not among them.
const BODIES: &[(&str, &str)] = &[
    (TEXT, ""),
    (TEXT, "a 1\nb{x=\"1\"} 2.5e-3\n"),
    (TEXT, "a 1"),
    (TEXT, "\n\n# just a comment\n#\na 1\n\n"),
    (TEXT, "a\t 1\n"),
    (TEXT, "a 1 \n"),
    (TEXT, "a {x=\"1\"} 1\n"),
    (TEXT, "a{x=\"1\"}1\n"),
    (TEXT, "a{x=\"1\"y=\"2\"} 1\n"),
    (TEXT, "a{x=\"1\",,y=\"2\"} 1\n"),
    (TEXT, "a{,} 1\n"),
    (TEXT, "# HELP a\na 1\n"),
    (TEXT, "#HELP a\n# HELPER a b\n# TYPE\na 1\n"),
    (TEXT, "a{x=\"two\nlines\"} 1\n"),
    (TEXT, "a{x=\"odd\\t\"} 1\n"),
    (TEXT, "a nan\nb inf\nc -Infinity\n"),
    (TEXT, "a +1\nb 1e\n"),
    (TEXT, "a{ x = \"1\" , y=\"\", } 2\n"),
    (TEXT, "a{x=\"q\\\"b\\\\n\\nl\"} 2\n"),
    (TEXT, "a{x=\"}{,=# é\"} 2\n"),
    (TEXT, "a{job=\"theirs\",instance=\"i\",exported_job=\"x\"} 2\n"),
    (TEXT, "a +Inf\nb -Inf\nc .5\nd 5.\ne 1e300\n"),
    (TEXT, "# HELP a It.\n# TYPE a counter\na 1\n# TYPE b untyped\nb 2\n"),
    (TEXT, "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n"),
    (TEXT, "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 3\n"),
    (TEXT, "a:b:c{} 2\n_a 3\n"),
    (TEXT, "go_drop 1\nkept 1\nrenamed_before 7\n"),
    (TEXT, "a\n"),
    (TEXT, "a b\n"),
    (TEXT, "a 1_000\n"),
    (TEXT, "a 0x1p3\n"),
    (TEXT, "a 1 1.5\n"),
    (TEXT, "a 1 2 3\n"),
    (TEXT, "a{x=1} 1\n"),
    (TEXT, "a{x} 1\n"),
    (TEXT, "a{1x=\"1\"} 1\n"),
    (TEXT, "a{x=\"1\" y=\"2\"} 1\n"),
    (TEXT, "a{x=\"1} 1\n"),
    (TEXT, "a{x=\"1\",x=\"2\"} 1\n"),
    (TEXT, "a{x=\"1\"}\n"),
    (TEXT, "{x=\"1\"} 1\n"),
    (TEXT, "a-b 1\n"),
    (TEXT, "1a 1\n"),
    (TEXT, "# TYPE a thing\na 1\n"),
    (TEXT, "<html></html>\n"),
    (TEXT, "a 1\nb 2\nc 3\nd 4\ne 5\nf 6\ng 7\n"),
    (TEXT, "a{l1=\"\",l2=\"2\",l3=\"3\",l4=\"4\",l5=\"5\",l6=\"6\"} 1\n"),
    (OPEN_METRICS, "# EOF\n"),
    (OPEN_METRICS, "# TYPE a counter\n# HELP a It.\na_total 1\na_created 1520430000.123\n# EOF\n"),
    (OPEN_METRICS, "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1.5\n# EOF\n"),
    (
        OPEN_METRICS,
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 3 # {trace_id=\"x\"} 0.5\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 1\n# EOF\n",
    ),
    (OPEN_METRICS, "a 1\n"),
    (OPEN_METRICS, "a 1\n# EOF\nb 2\n"),
    (OPEN_METRICS, "a  1\n# EOF\n"),
    (OPEN_METRICS, "a{x=\"1\" } 1\n# EOF\n"),
    (OPEN_METRICS, "a{x=\"1\",} 1\n# EOF\n"),
    (OPEN_METRICS, "a{x=\"1\", y=\"2\"} 1\n# EOF\n"),
    (OPEN_METRICS, "a{} 1\n# EOF\n"),
    (OPEN_METRICS, "a {x=\"1\"} 1\n# EOF\n"),
    (OPEN_METRICS, "a{x=\"1\"}1\n# EOF\n"),
    (OPEN_METRICS, "# TYPE a counter\n# TYPE b info\nb_info{v=\"1\"} 1\n# EOF\n"),
    (OPEN_METRICS, "# HELP a\na 1\n# EOF\n"),
    (OPEN_METRICS, "a_total 1 # {x=\"1\"} 1 1.5\n# EOF\n"),
    (OPEN_METRICS, "a 1 # {x=\"1\"} 0.5\n# EOF\n"),
    (OPEN_METRICS, "# TYPE a counter\na_total 1 # {x=\"1\"} 1 1.5\n# EOF\n"),
    (OPEN_METRICS, "# TYPE a counter\na_total 1 # {x=\"1\"} 1\n# EOF\n"),
    (OPEN_METRICS, "a 1 # {x=\"1\"}\n# EOF\n"),
    (OPEN_METRICS, "# TYPE a unknown\na 1\n# EOF\n\n"),
    (OPEN_METRICS, "a 1 \n# EOF\n"),
    (OPEN_METRICS, "\na 1\n# EOF\n"),
    (OPEN_METRICS, "# a comment\na 1\n# EOF\n"),
    (OPEN_METRICS, "# UNIT a seconds\na 1\n# EOF\n"),
    (OPEN_METRICS, "a 1 NaN\n# EOF\n"),
    (OPEN_METRICS, "a 1 # x\n# EOF\n"),
];

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configuration(address: &str) -> String {
    let mut groups = String::new();
    for at in 0..BODIES.len() {
        groups += &format!("      - {{targets: ['{address}'], labels: {{__metrics_path__: /body/{at}, body: '{at}'}}}}\n");
    }
    format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: same\n    sample_limit: 6\n    label_limit: 9\n    \
metric_relabel_configs:\n      - {{source_labels: [__name__], regex: 'go_.*', action: drop}}\n      \
- {{source_labels: [__name__], regex: '(.*)_before', target_label: __name__, replacement: '${{1}}_after'}}\n      \
- {{source_labels: [body], regex: '(.).*', target_label: first}}\n    static_configs:\n{groups}"
    )
}

/// Series by their labels, as text, with values; only the last of each.
type Seen = BTreeMap<String, String>;

fn is_compared(name: &str) -> bool {
    name != "scrape_duration_seconds"
}

async fn prometheus_sees(port: u16) -> Option<Seen> {
    let url = format!("http://127.0.0.1:{port}/api/v1/query?query=%7Bjob%3D%22same%22%7D");
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.ok()?.bytes().await.ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    let mut seen = Seen::new();
    for one in answer["data"]["result"].as_array()? {
        let labels: BTreeMap<String, String> = serde_json::from_value(one["metric"].clone()).ok()?;
        if is_compared(&labels["__name__"]) {
            let value: f64 = one["value"][1].as_str()?.parse().ok()?;
            seen.insert(format!("{labels:?}"), value.to_string());
        }
    }
    Some(seen)
}

fn we_see(recorder: &Recorder, seen: &mut Seen) {
    for (labels, _, value) in recorder.take() {
        let paramedic_promql::SampleValue::Float(value) = value else { continue };
        let map: BTreeMap<String, String> = labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
        if paramedic_promql::number::is_stale(value) {
            seen.remove(&format!("{map:?}"));
        } else if is_compared(labels.metric_name()) {
            seen.insert(format!("{map:?}"), value.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_sees_the_same() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = configuration(&listener.local_addr().unwrap().to_string());
    let body = |Path(at): Path<usize>| async move { ([("content-type", BODIES[at].0)], BODIES[at].1) };
    let stop = CancellationToken::new();
    let (stopped, router) = (stop.clone(), axum::Router::new().route("/body/{at}", axum::routing::get(body)));
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await });

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, &yaml).unwrap();
    let port = free_port();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = match command.spawn() {
        Ok(child) => Running(child),
        Err(error) => return eprintln!("skipped: prometheus cannot be started: {error}"),
    };

    let recorder = Arc::new(Recorder::default());
    let imported = from_prometheus_yaml(&yaml).unwrap();
    assert_eq!(imported.unsupported, [""; 0]);
    let settings = Settings { jobs: imported.jobs, ..Settings::default() };
    let scraper = Scraper::new(settings, recorder.clone(), Arc::new(SystemClock)).unwrap();
    let running = (scraper.clone(), stop.clone());
    tokio::spawn(async move { running.0.run(running.1).await });

    // Both have looked at every target more than once when no series is new any more.
    let (mut ours, mut theirs) = (Seen::new(), Seen::new());
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        we_see(&recorder, &mut ours);
        theirs = prometheus_sees(port).await.unwrap_or_default();
        if !theirs.is_empty() && theirs == ours {
            break;
        }
    }
    stop.cancel();
    let only = |left: &Seen, right: &Seen| -> Vec<String> {
        left.iter().filter(|(labels, value)| right.get(*labels) != Some(value)).map(|(labels, value)| format!("{labels} {value}")).collect()
    };
    let (we, they) = (only(&ours, &theirs), only(&theirs, &ours));
    for target in scraper.targets() {
        let at: usize = target.labels["body"].parse().unwrap();
        println!("{at} {:?} {} {:?}", target.health, target.last_error, BODIES[at].1);
    }
    assert!(we.is_empty() && they.is_empty(), "only we:\n{}\nonly Prometheus:\n{}", we.join("\n"), they.join("\n"));
    assert_eq!(ours.keys().filter(|labels| labels.contains("\"__name__\": \"up\"")).count(), BODIES.len());
}
