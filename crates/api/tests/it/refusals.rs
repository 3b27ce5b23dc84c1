//! What is refused, how, and that nothing was changed by it.

use crate::served;

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_wrong_and_what_next() {
    let (_stage, server) = served().await;
    let json = "content-type: application/json";
    for (method, path, headers, body, status, code, words) in [
        ("GET", "/api/v1/agents?limt=3", "", "", 400, "bad_request", "limt"),
        ("GET", "/api/v1/agents?limit=0", "", "", 400, "bad_request", "limit"),
        ("GET", "/api/v1/agents?limit=many", "", "", 400, "bad_request", "limit"),
        ("GET", "/api/v1/agents?state=asleep", "", "", 400, "bad_request", "state"),
        ("GET", "/api/v1/events?from=yesterday", "", "", 400, "bad_request", "from"),
        ("GET", "/api/v1/events?kind=nonsense", "", "", 400, "bad_request", "\"nonsense\" is not a kind"),
        ("GET", "/api/v1/agents/nobody", "", "", 404, "not_found", "nobody"),
        ("GET", "/api/v1/incidents/INC-99", "", "", 404, "not_found", "INC-99"),
        ("GET", "/api/v1/incidents/x", "", "", 404, "not_found", "x"),
        ("GET", "/api/v1/nothing", "", "", 404, "not_found", "path"),
        ("POST", "/api/v1/agents", json, "{}", 405, "method_not_allowed", "method"),
        ("POST", "/api/v1/incidents", json, "{", 400, "bad_request", "JSON"),
        ("POST", "/api/v1/incidents", json, "[]", 400, "bad_request", "object"),
        ("POST", "/api/v1/incidents", json, r#"{"title":"x","type":"flood","severity":"SEV1"}"#, 400, "bad_request", "flood"),
        ("POST", "/api/v1/incidents", json, r#"{"title":" ","type":"timeout","severity":"SEV1"}"#, 400, "bad_request", "title"),
        ("POST", "/api/v1/incidents/2/note", "content-type: text/plain", "hi", 415, "unsupported_media_type", "application/json"),
        ("POST", "/api/v1/incidents/1/state", json, r#"{"state":"identified"}"#, 409, "conflict", "re-open"),
        ("POST", "/api/v1/incidents/2/merge", json, r#"{"into":"2"}"#, 400, "bad_request", "into"),
    ] {
        let headers: Vec<&str> = Some(headers).filter(|header| !header.is_empty()).into_iter().collect();
        let answer = server.send(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{path}");
        assert!(error["message"].as_str().unwrap().contains(words), "{path}: {error}");
        assert!(error["hint"].is_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kind_is_told_the_right_ones_and_each_of_them_works() {
    let (_stage, server) = served().await;
    let hint = server.get("/api/v1/events?kind=nonsense").await.json()["error"]["hint"].as_str().unwrap().to_owned();
    for kind in paramedic_model::Fact::KINDS {
        assert!(hint.contains(kind), "{kind}: {hint}");
        assert_eq!(server.get(&format!("/api/v1/events?kind={kind}")).await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_can_change_nothing() {
    let (stage, server) = served().await;
    let before = stage.context.journal.head().await.unwrap();
    let json = "content-type: application/json";
    for headers in [
        vec![json, "origin: https://evil.example"],
        vec![json, "origin: null"],
        vec![json, "sec-fetch-site: cross-site"],
        vec![json, "host: evil.example"],
        vec!["origin: https://evil.example"],
    ] {
        let answer = server.send("POST", "/api/v1/incidents/2/acknowledge", &headers, "").await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
    }
    assert_eq!(server.send("GET", "/api/v1/agents", &["host: evil.example"], "").await.status, 403, "a rebound name may not read either");
    assert_eq!(stage.context.journal.head().await.unwrap(), before);
    let metrics = server.send("GET", "/metrics", &["host: analytics:3333"], "").await;
    assert_eq!(metrics.status, 200, "scrapers use names");
    assert!(metrics.body.contains("paramedic_api_refused_cross_site_total 6"), "{}", metrics.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused() {
    let (_stage, server) = served().await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(server.post("/api/v1/incidents/2/note", &body).await.status, 413);
}
