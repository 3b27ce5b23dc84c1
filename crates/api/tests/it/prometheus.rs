//! Prometheus's HTTP API: requests and what must come back, byte by byte where the shape is fixed.

use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::Server;
use crate::stage::{Stage, now};

pub async fn metered() -> (Stage, Server) {
    let stage = Stage::with_metrics().await;
    let server = Server::start(paramedic_api::router(Arc::clone(&stage.context))).await;
    (stage, server)
}

fn seconds() -> i64 {
    now().as_secs()
}

/// Request, status, a pointer into the answer, and what is there.
type Case = (&'static str, u16, &'static str, Value);

fn reads() -> Vec<Case> {
    vec![
        ("query?query=1%2B1", 200, "/data", json!({"resultType": "scalar", "result": [seconds(), "2"]})),
        ("query?query=%22a%22&time=1.5", 200, "/data", json!({"resultType": "string", "result": [1.5, "a"]})),
        ("query?query=up%7Bjob%3D%22gateway%22%7D", 200, "/data/result/0/value/1", json!("1")),
        (
            "query?query=up%7Bjob%3D%22gateway%22%7D",
            200,
            "/data/result/0/metric",
            json!({"__name__": "up", "instance": "gw-1:9090", "job": "gateway"}),
        ),
        ("query?query=up[30s]", 200, "/data/resultType", json!("matrix")),
        ("query?query=up&time=2026-03-10T15:00:00Z", 200, "/data/result/0/value/0", json!(seconds())),
        ("query?query=up&limit=1", 200, "/warnings", json!(["results truncated due to limit"])),
        ("query?query=up&limit=2", 200, "/warnings", Value::Null),
        ("query?query=up&stats=all", 200, "/data/stats/timings/resultSortTime", json!(0)),
        ("query?query=up&lookback_delta=1s&time=2026-03-10T15:00:05Z", 200, "/data/result", json!([])),
        (
            "query?query=rate(free_bytes[5m])",
            200,
            "/infos/0",
            json!("PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"free_bytes\" (1:6)"),
        ),
        (
            "query?query=histogram_quantile(2,answer_seconds)",
            200,
            "/warnings/0",
            json!("PromQL warning: quantile value should be between 0 and 1, got 2 (1:20)"),
        ),
        (
            "query?query=answer_seconds",
            200,
            "/data/result/0/histogram/1",
            json!({"count": "12", "sum": "30.5", "buckets": [[1, "-1", "-0.5", "1"], [3, "-0.001", "0.001", "1"], [0, "0.5", "1", "4"], [0, "1", "2", "6"]]}),
        ),
        (
            "query?query=",
            400,
            "",
            json!({"status": "error", "errorType": "bad_data", "error": "invalid parameter \"query\": 1:1: parse error: no expression found in input"}),
        ),
        ("query?query=up%7B", 400, "/errorType", json!("bad_data")),
        (
            "query?query=up&time=tomorrow",
            400,
            "/error",
            json!("invalid parameter \"time\": cannot parse \"tomorrow\" to a valid timestamp"),
        ),
        ("query?query=up&timeout=soon", 400, "/error", json!("invalid parameter \"timeout\": cannot parse \"soon\" to a valid duration")),
        ("query?query=up&limit=-1", 400, "/error", json!("invalid parameter \"limit\": limit must be non-negative")),
        ("query?query=up%20%2F%20on()%20up", 422, "/errorType", json!("execution")),
        ("query?query=up&timeout=0", 503, "/errorType", json!("timeout")),
        (
            "query_range?query=up%7Bjob%3D%22gateway%22%7D&start=1773154800&end=1773154830&step=15",
            200,
            "/data/result/0/values",
            json!([[1773154800, "1"], [1773154815, "1"], [1773154830, "1"]]),
        ),
        (
            "query_range?query=answer_seconds&start=1773154800&end=1773154800&step=15s",
            200,
            "/data/result/0/histograms/0/1/count",
            json!("12"),
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            400,
            "/error",
            json!("invalid parameter \"end\": end timestamp must not be before start time"),
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "/error",
            json!("invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"),
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "/error",
            json!("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"),
        ),
        ("query_range?query=up&start=0&end=11000&step=1", 200, "/status", json!("success")),
        ("query_range?query=up[5m]&start=1&end=2&step=1", 400, "/errorType", json!("bad_data")),
        ("query_range?query=up&end=2&step=1", 400, "/error", json!("invalid parameter \"start\": cannot parse \"\" to a valid timestamp")),
        ("query_exemplars?query=up", 200, "/data", json!([])),
        ("format_query?query=sum(up)by(job)", 200, "/data", json!("sum by (job) (up)")),
        ("format_query?query=sum(", 400, "/errorType", json!("bad_data")),
        ("parse_query?query=up%3E0", 200, "/data/op", json!(">")),
        (
            "series?match[]=agent_queue_depth",
            200,
            "/data",
            json!([{"__name__": "agent_queue_depth", "queue": "batch"}, {"__name__": "agent_queue_depth", "queue": "default"}]),
        ),
        ("series?match[]=agent_queue_depth&limit=1", 200, "/warnings", json!(["results truncated due to limit"])),
        ("series?match[]=up%7Bjob%3D%22none%22%7D", 200, "/data", json!([])),
        ("series", 400, "/error", json!("no match[] parameter provided")),
        ("series?match[]=up%7B", 400, "/errorType", json!("bad_data")),
        ("series?match[]=up&start=1&end=2", 200, "/data", json!([])),
        ("labels", 200, "/data", json!(["__name__", "a.b", "code", "device", "instance", "job", "path", "queue"])),
        ("labels?match[]=up", 200, "/data", json!(["__name__", "instance", "job"])),
        ("label/job/values", 200, "/data", json!(["gateway", "postgres"])),
        ("label/__name__/values?match[]=%7Bjob%3D%22postgres%22%7D", 200, "/data", json!(["up"])),
        ("label/U__a_2e_b/values", 200, "/data", json!(["c\"d\\e"])),
        ("label/a.b/values", 200, "/data", json!(["c\"d\\e"])),
        ("label/nothing/values", 200, "/data", json!([])),
        (
            "metadata?metric=gateway_requests_total",
            200,
            "/data",
            json!({"gateway_requests_total": [{"type": "counter", "unit": "", "help": "Requests that the gateway answered."}]}),
        ),
        ("metadata?limit=0", 200, "/status", json!("success")),
        ("rules", 200, "/data/groups/0/rules/0/state", json!("firing")),
        ("rules", 200, "/data/groups/0/rules/0/alerts/0/value", json!("3e-01")),
        ("rules", 200, "/data/groups/0/interval", json!(30.0)),
        ("rules?type=record", 200, "/data/groups/0/rules/0/type", json!("recording")),
        ("rules?type=record", 200, "/data/groups/1", Value::Null),
        ("rules?exclude_alerts=true", 200, "/data/groups/0/rules/0/alerts", json!([])),
        ("rules?rule_name[]=TargetDown", 200, "/data/groups/0/name", json!("targets")),
        ("rules?rule_group[]=none", 200, "/data/groups", json!([])),
        ("rules?file[]=/etc/paramedic/rules/gateway.yml&rule_group[]=targets", 200, "/data/groups/0/name", json!("targets")),
        ("rules?group_limit=1", 200, "/data/groups/1", Value::Null),
        ("rules?type=other", 400, "/errorType", json!("bad_data")),
        ("rules?group_next_token=x", 400, "/errorType", json!("bad_data")),
        ("alerts", 200, "/data/alerts/1/state", json!("pending")),
        ("alerts", 200, "/data/alerts/0/labels", json!({"alertname": "GatewayErrors", "job": "gateway", "severity": "critical"})),
        ("targets", 200, "/data/activeTargets/3/lastError", json!("connect: connection refused")),
        ("targets", 200, "/data/activeTargets/0/scrapeUrl", json!("http://gw-1:9090/metrics")),
        ("targets?scrapePool=host", 200, "/data/activeTargets/0/scrapeUrl", json!("probe://host/this machine")),
        ("targets?state=dropped", 200, "/data/activeTargets", json!([])),
        ("targets?state=lost", 400, "/errorType", json!("bad_data")),
        ("scrape_pools", 200, "/data/scrapePools", json!(["gateway", "host", "postgres"])),
        ("targets/metadata?metric=gateway_requests_total", 200, "/data/0/type", json!("counter")),
        ("alertmanagers", 200, "/data/activeAlertmanagers", json!([])),
        ("status/buildinfo", 200, "/data/application", json!("Paramedic")),
        ("status/runtimeinfo", 200, "/data/storageRetention", json!("360h")),
        ("status/config", 200, "/data/yaml", json!("[samples]\nretention_h = 360\n")),
        ("status/flags", 200, "/data/query.timeout", json!("2m")),
        ("status/tsdb", 200, "/data/headStats/numSeries", json!(9)),
        ("status/tsdb?limit=1", 200, "/data/seriesCountByMetricName", json!([{"name": "agent_queue_depth", "value": 2}])),
        ("status/walreplay", 200, "/data/state", json!("done")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_the_answers_of_prometheus() {
    let (_stage, server) = metered().await;
    for (request, status, pointer, expect) in reads() {
        let answer = server.get(&format!("/api/v1/{request}")).await;
        let body = unchunked(&answer.body);
        assert_eq!(answer.status, status, "{request}: {body}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
        let found = body.pointer(pointer).cloned().unwrap_or(Value::Null);
        assert_eq!(found, expect, "{request}: {body}");
        assert_eq!(body["status"], if status == 200 { "success" } else { "error" }, "{request}");
    }
}

/// Streamed answers come in chunks.
fn unchunked(body: &str) -> Value {
    serde_json::from_str(&text_of(body)).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn text_of(body: &str) -> String {
    if body.starts_with('{') || body.starts_with('#') || body.is_empty() {
        return body.to_owned();
    }
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_as_good_as_a_query() {
    let (_stage, server) = metered().await;
    let form = "content-type: application/x-www-form-urlencoded";
    for (path, body, pointer, expect) in [
        ("/api/v1/query", "query=count(up)&time=1773154800", "/data/result/0/value", json!([1_773_154_800, "2"])),
        (
            "/api/v1/query_range",
            "query=count(up)&start=1773154800&end=1773154800&step=1",
            "/data/result/0/values",
            json!([[1_773_154_800, "2"]]),
        ),
        ("/api/v1/series", "match%5B%5D=agent_queue_depth%7Bqueue%3D%22batch%22%7D", "/data/0/queue", json!("batch")),
        ("/api/v1/labels", "match[]=free_bytes", "/data", json!(["__name__", "device"])),
        ("/api/v1/format_query", "query=a%2Bb", "/data", json!("a + b")),
    ] {
        let answer = server.send("POST", path, &[form], body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(unchunked(&answer.body).pointer(pointer), Some(&expect), "{path}");
    }
    let foreign = server.send("POST", "/api/v1/query", &[form, "origin: https://evil.example"], "query=up").await;
    assert_eq!(foreign.status, 403, "a page of another site may not make this machine work");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_groups_follow_each_other() {
    let (_stage, server) = metered().await;
    let first = server.get("/api/v1/rules?group_limit=1").await.json();
    let token = first["data"]["groupNextToken"].as_str().unwrap().to_owned();
    let second = server.get(&format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await.json();
    assert_eq!(second["data"]["groups"][0]["name"], "targets");
    assert_eq!(second["data"].get("groupNextToken"), None, "nothing follows the last group");
}

#[tokio::test(flavor = "multi_thread")]
async fn federation_gives_the_last_samples_as_text() {
    let (_stage, server) = metered().await;
    let answer = server.get("/federate?match[]=agent_queue_depth&match[]=%7Bqueue%3D%22batch%22%7D&match[]=%7B%22odd.name%22%7D").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"));
    let time = now().as_millis();
    let text = text_of(&answer.body);
    assert!(text.contains(&format!("# TYPE agent_queue_depth untyped\nagent_queue_depth{{queue=\"batch\"}} 3 {time}\n")), "{text}");
    assert!(text.contains("# TYPE odd_name untyped\nodd_name{a_b=\"c\\\"d\\\\e\","), "{text}");
    assert_eq!(text.matches("queue=\"batch\"").count(), 1, "{text}");
    let utf8 =
        server.send("GET", "/federate?match[]=%7B%22odd.name%22%7D", &["accept: text/plain;version=1.0.0;escaping=allow-utf-8"], "").await;
    assert!(text_of(&utf8.body).contains("{\"odd.name\",\"a.b\"=\"c\\\"d\\\\e\","), "{}", utf8.body);
    assert_eq!(server.get("/federate?match[]=up%7B").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_says_so() {
    let (_stage, server) = crate::served().await;
    for (path, status, words) in [
        ("/api/v1/query?query=up", 503, "unavailable"),
        ("/api/v1/labels", 503, "unavailable"),
        ("/api/v1/rules", 200, "\"groups\":[]"),
        ("/api/v1/targets", 200, "\"activeTargets\":[]"),
        ("/-/healthy", 200, "Healthy"),
        ("/-/ready", 200, "Ready"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(words), "{path}: {}", answer.body);
    }
    for (path, status) in [("/api/v1/write", 404), ("/api/v1/read", 404), ("/-/reload", 403)] {
        assert_eq!(server.post(path, "").await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_client_leaves_and_is_counted() {
    use tokio::io::AsyncWriteExt as _;
    let (stage, server) = metered().await;
    // A hundred times thousands of medians over hundreds of points: far more than the test's time.
    let query = ["quantile_over_time(0.5,agent_queue_depth[10m:1s])"; 100].join("%2B");
    let slow = format!("/api/v1/query_range?query={query}&start={}&end={}&step=2", seconds() - 3_600, seconds());
    let counted = |line: &str| metric(&stage, line);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut stream = tokio::net::TcpStream::connect(server.0).await.unwrap();
        stream.write_all(format!("GET {slow} HTTP/1.1\r\nhost: {}\r\n\r\n", server.0).as_bytes()).await.unwrap();
        clients.push(stream);
    }
    until(|| counted("paramedic_api_queries_running") == Some(4.0)).await;
    // All turns are taken: whoever comes now waits, and not for longer than it may take.
    let waiting = server.get("/api/v1/query?query=up&timeout=200ms").await;
    assert_eq!(waiting.json()["error"], "query timed out in query queue");
    drop(clients);
    until(|| counted("paramedic_api_queries_running") == Some(0.0)).await;
    assert_eq!(counted("paramedic_api_queries_total{outcome=\"abandoned\"}"), Some(4.0));
    // The turns are free again, so the work behind them has ended too.
    assert_eq!(server.get("/api/v1/query?query=up&timeout=25s").await.status, 200);
    assert_eq!(counted("paramedic_api_queries_total{outcome=\"ok\"}"), Some(1.0));
}

fn metric(stage: &Stage, name: &str) -> Option<f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &stage.context.registry).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it never came about");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_can_query() {
    let (_stage, server) = metered().await;
    let url = format!("http://{}", server.0);
    let time = seconds().to_string();
    let start = (seconds() - 60).to_string();
    for (arguments, expect) in [
        (vec!["query", "instant", "--time", &time, &url, "up{job=\"gateway\"}"], "up{instance=\"gw-1:9090\", job=\"gateway\"} => 1 @"),
        (vec!["query", "range", "--start", &start, "--end", &time, "--step", "30s", &url, "count(up)"], "2 @["),
        (vec!["query", "series", "--match", "free_bytes", "--start", &start, "--end", &time, &url], "device=\"sda\""),
        (vec!["query", "labels", "--start", &start, "--end", &time, &url, "queue"], "batch"),
    ] {
        let program = arguments.join(" ");
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let output = tokio::task::spawn_blocking(move || Command::new("promtool").args(arguments).output()).await.unwrap();
        let Ok(output) = output else { return eprintln!("skipped: promtool is not installed") };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(expect), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Ends with the test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a real Prometheus has for an expression.
async fn peer_value(peer: &Server, query: &str) -> Option<String> {
    let stream = tokio::net::TcpStream::connect(peer.0).await;
    drop(stream.ok()?);
    let answer = peer.get(&format!("/api/v1/query?query={query}")).await;
    let body: Value = serde_json::from_str(&text_of(&answer.body)).ok()?;
    Some(body.pointer("/data/result/0/value/1")?.as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_metrics_and_federation() {
    let mut stage = Stage::empty(Arc::new(paramedic_model::SystemClock)).await;
    stage.equip_with(paramedic_model::Clock::now(&paramedic_model::SystemClock));
    let server = Server::start(paramedic_api::router(Arc::clone(&stage.context))).await;
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let settings = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: metrics\n  static_configs: [{{targets: ['{0}']}}]\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  params: {{'match[]': ['{{job=\"gateway\"}}', 'agent_queue_depth']}}\n  static_configs: [{{targets: ['{0}']}}]\n",
        server.0
    );
    let file = stage.dir.path().join("prometheus.yml");
    std::fs::write(&file, settings).unwrap();
    let program = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", stage.dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(program) = program else { return eprintln!("skipped: prometheus is not installed") };
    let _program = Program(program);
    let peer = Server(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    for (query, expect) in [
        ("up%7Bjob%3D%22metrics%22%7D", "1"),
        ("up%7Bjob%3D%22federate%22%7D", "1"),
        ("agent_queue_depth%7Bqueue%3D%22batch%22%7D", "3"),
        ("up%7Binstance%3D%22gw-1%3A9090%22%7D", "1"),
        ("count(paramedic_api_requests_total)%20%3E%20bool%200", "1"),
    ] {
        let began = std::time::Instant::now();
        loop {
            let found = peer_value(&peer, query).await;
            if found.as_deref() == Some(expect) {
                break;
            }
            assert!(began.elapsed() < std::time::Duration::from_secs(40), "{query}: {found:?}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}
