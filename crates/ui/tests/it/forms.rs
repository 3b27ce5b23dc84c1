//! Every action is a form that works without script.

use std::sync::Arc;

use paramedic_model::ManualClock;

use crate::stage::{self, Stage};
use crate::{serve, served};

#[tokio::test(flavor = "multi_thread")]
async fn forms_do_say_and_record() {
    let (_stage, server) = served().await;
    for (path, body, said, shown) in [
        ("/incidents/3/acknowledge", "", "somebody is on it", "acknowledged by"),
        ("/incidents/3/note", "text=It+runs+%3Cb%3Ein+circles%3C%2Fb%3E%0D%0Astopped", "Note added", "&lt;b&gt;in circles&lt;/b&gt;"),
        ("/incidents/3/severity", "severity=SEV1&reason=it+deploys", "Severity set", "SEV1"),
        ("/incidents/3/state", "state=identified&reason=", "State changed", "Identified"),
        ("/incidents/3/title", "title=Checkout+agent+loops", "Renamed", "Checkout agent loops"),
        ("/incidents/3/resolve", "reason=stopped+it", "Resolved", "Re-open"),
        ("/incidents/3/reopen", "reason=", "Opened again", "Cancel: a false alarm"),
        ("/incidents/3/cancel", "reason=", "Cancelled", "Cancelled"),
        ("/incidents/1/merge", "into=INC-2", "Merged", "INC-1 was merged"),
        ("/incidents", "title=Disk+almost+full&type=performance&severity=SEV4&agent=", "in the journal", "Opened by hand"),
    ] {
        let answer = server.form(path, body).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.body);
        let page = server.get(answer.header("location").unwrap()).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains(said), "{path} says what it did");
        assert!(page.body.contains(shown), "{path} shows {shown:?}\n{}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_forms_say_why() {
    let (_stage, server) = served().await;
    for (path, body, status, words) in [
        ("/incidents/2/note", "text=++", 400, "needs words"),
        ("/incidents/2/severity", "", 400, "severity"),
        ("/incidents/2/severity", "severity=SEV9", 400, "severity"),
        ("/incidents/2/merge", "into=INC-77", 404, "INC-77"),
        ("/incidents/2/reopen", "", 409, "open already"),
        ("/incidents/2/explode", "", 404, "no such action"),
        ("/incidents/77/acknowledge", "", 404, "INC-77"),
    ] {
        let answer = server.form(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(answer.body.contains(words), "{path} {body}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_post_a_form() {
    let (stage, server) = served().await;
    let before = stage.context.journal.head().await.unwrap();
    let form = "content-type: application/x-www-form-urlencoded";
    for headers in
        [[form, "origin: http://evil.example"], [form, "origin: null"], [form, "sec-fetch-site: cross-site"], [form, "host: evil.example"]]
    {
        let answer = server.send("POST", "/incidents/3/acknowledge", &headers, "").await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert_eq!(stage.context.journal.head().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_given_once_signs_what_follows() {
    let (_stage, server) = served().await;
    let answer = server.form("/me", "name=Robin+B%3Bx").await;
    assert_eq!(answer.status, 303);
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("SameSite=Strict") && cookie.contains("HttpOnly"), "{cookie}");
    let pair = format!("cookie: {}", cookie.split(';').next().unwrap());
    let noted = server.send("POST", "/incidents/2/note", &["content-type: application/x-www-form-urlencoded", &pair], "text=hello").await;
    assert_eq!(noted.status, 303);
    assert!(server.get("/incidents/2").await.body.contains("<b>Robin.Bx</b>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_acknowledge_runs_and_is_missed() {
    let clock = Arc::new(ManualClock::at(stage::now()));
    let stage = Stage::empty(clock.clone()).await;
    let server = serve(&stage).await;
    let opened = server.form("/incidents", "title=All+orders+fail&type=api_failure&severity=SEV1&agent=").await;
    assert_eq!(opened.status, 303, "{}", opened.body);
    let page = opened.header("location").unwrap().split('?').next().unwrap().to_owned();
    for (minutes, said) in [(1, "in 4 min"), (9, "5 min overdue")] {
        clock.advance(std::time::Duration::from_secs(minutes * 60));
        for path in ["/", "/incidents", &page] {
            let body = server.get(path).await.body;
            let after = body.split("acknowledge ").nth(1).unwrap_or_else(|| panic!("{path} does not say by when:\n{body}"));
            let shown = after.split('>').nth(1).and_then(|rest| rest.split('<').next());
            assert_eq!(shown, Some(said), "{path}");
        }
    }
    assert_eq!(server.form(&format!("{page}/acknowledge"), "").await.status, 303);
    let body = server.get(&page).await.body;
    assert!(!body.contains("overdue") && body.contains("acknowledged by"), "{body}");
}
