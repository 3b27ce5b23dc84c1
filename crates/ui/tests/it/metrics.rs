//! The pages about samples, rules and targets.

use std::sync::Arc;

use paramedic_model::ManualClock;

use crate::serve;
use crate::stage::{self, HOSTILE, Stage};

/// Path, and words that must be on the page, in the page's own HTML.
fn expectations() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        (
            "/alerts",
            vec![
                "2 alerts are firing, 1 pending",
                "GatewayErrors",
                "Now <b>30 %</b>, fires at &gt; 5 %",
                "class=\"limit\"",
                "fires at == 0",
                "postgres db-1:5432 does not answer",
                "fires after 2 min",
                "(30 %, fires at &gt; 5 %)",
            ],
        ),
        (
            "/rules",
            vec![
                "1 rule fires",
                "5 rules in 2 groups",
                "1 never had data",
                "1 cannot be evaluated",
                "never had data: <code>queue_jobs_waiting{queue=&quot;x&quot;}</code>",
                "found duplicate series",
                "/etc/paramedic/rules/gateway.yml · every 30 s",
                "records",
                "quiet",
            ],
        ),
        ("/rules?which=no-data", vec!["QueueTooLong", "1 rule fires"]),
        ("/rules?text=nosuchrule", vec!["No rule matches"]),
        ("/rules?why=GatewayErrors", vec!["Why GatewayErrors is", "with <b>&gt; 5 %</b>", "class=\"wrap d2\"", "2.7/s"]),
        (
            "/targets",
            vec!["1 of 4 targets down", "connect: connection refused", "82 times in a row", "not looked at yet", "probed", "12.3 ms"],
        ),
        ("/targets?health=up&text=host", vec!["this machine"]),
        ("/targets?text=nosuchtarget", vec!["No target matches"]),
        ("/query", vec!["For example", "up == 0", "6 metrics in the last day", "odd.name", "/query?query=%7B%22odd.name%22%7D"]),
        (
            "/query?query=sum+by+(code)+(rate(gateway_requests_total[5m]))",
            vec!["2 series", "1 h, a point each 20 s", "{code=&quot;529&quot;}", "l1", "/s</text>"],
        ),
        ("/query?query=up&range=15m&step=1m&time=2026-03-10T14:30:00Z", vec!["15 min, a point each 1 min", "14:15", "14:30 UTC"]),
        ("/query?query=up%7B", vec!["parse error", "up{\n  ^"]),
        ("/query?query=up+%2F+on()+up", vec!["said bad"]),
        ("/query?query=1%2B1", vec!["1 series"]),
        ("/query?query=%22hello%22", vec!["hello", "string"]),
        ("/query?query=up[1m]", vec!["samples: 1 at 15:00:00", "Samples up to"]),
        ("/query?query=answer_seconds", vec!["Only native histograms", "{count:12, sum:30.5"]),
        ("/query?query=nothing_here", vec!["No series matches between", "Targets"]),
        ("/query?query=rate(free_bytes[5m])", vec!["metric might not be a counter"]),
        ("/query?query=up&range=forever", vec!["is not a duration"]),
        ("/query?query=up&time=tomorrow", vec!["is not a time"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_about_metrics_answer_their_questions() {
    let stage = Stage::with_metrics().await;
    let server = serve(&stage).await;
    for (path, words) in expectations() {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains(HOSTILE), "{path}: text of others must be escaped");
        assert!(answer.body.len() < 60_000, "{path}: {} bytes", answer.body.len());
        for word in words {
            assert!(answer.body.contains(word), "{path} lacks {word:?}:\n{}", answer.body);
        }
    }
    for (path, status) in
        [("/rules?why=NoSuchAlert", 404), ("/rules?which=loud", 400), ("/targets?health=well", 400), ("/query?color=red", 400)]
    {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_labels_stay_text() {
    let stage = Stage::with_metrics().await;
    let server = serve(&stage).await;
    let page = server.get("/query?query=%7B%22odd.name%22%7D").await.body;
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>alert"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_metrics_the_pages_say_so() {
    let stage = Stage::empty(Arc::new(ManualClock::at(stage::now()))).await;
    let server = serve(&stage).await;
    for (path, words) in
        [("/rules", "Rules are not evaluated here"), ("/targets", "Nothing is scraped or probed"), ("/query?query=up", "keeps no samples")]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(words), "{path}: {}", answer.body);
    }
}
