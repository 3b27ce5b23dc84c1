//! Runbooks on the page of an incident: what would run stands there exactly, and only who saw it lets it run.

use crate::client::Answer;
use crate::respond::{Acting, DISK};

fn location(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.header("location").unwrap()
}

/// How often a text stands on a page.
fn times(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cockpit_shows_why_and_exactly_what_would_run() {
    let acting = Acting::with_disk().await;
    let page = acting.get("kim", "/incidents/3").await;
    for words in [
        "Logs fill it",
        "no space left",
        "Looked at 1 of 2",
        "&lt;script&gt;alert(3)&lt;/script&gt; (+1 lines)",
        "bash --noprofile --norc -euc",
        "'&lt;b&gt;&quot;emptied&quot;&amp;&lt;/b&gt;'",
        "waits for approval",
        "Way back: <code>refill</code>",
        "It needs to know",
        "name=\"input.who\"",
        "Approve and run",
        "Checklist",
        "Take command",
        "Postmortem",
        "Start another runbook",
        "Commander",
    ] {
        assert!(page.contains(words), "{words:?} is not on the page:\n{page}");
    }
    assert!(!page.contains("<script>") && !page.contains("<b>\""), "{page}");
    assert_eq!(times(&page, "class=\"primary\""), 1, "one primary button:\n{page}");
    let hash = acting.hash("RUN-1", "empty").await;
    assert!(page.contains(&format!("name=\"hash\" value=\"{hash}\"")));
    assert!(!page.contains("/kept"), "a way back is no offer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_what_was_seen_runs_and_says_so() {
    let acting = Acting::with_disk().await;
    let hash = acting.hash("RUN-1", "empty").await;
    let approved = acting.post("kim", "/runs/RUN-1/approve", &format!("step=empty&hash={hash}&back=/incidents/INC-3")).await;
    assert_eq!(location(&approved), "/incidents/INC-3?done=approve");
    assert!(acting.get("kim", "/incidents/INC-3?done=approve").await.contains("exactly what you saw runs now"));
    let record = acting.until("/runs/RUN-1", "&lt;b&gt;&quot;emptied&quot;&amp;&lt;/b&gt;</pre>").await;
    assert_eq!(acting.wrote("emptied").as_deref(), Some("<b>\"emptied\"&</b>"));
    for words in [
        "<b>kim</b> agreed to <b>empty</b>",
        "allowed by kim",
        &hash[..12],
        "exit 0",
        "sha256",
        "&lt;b&gt;&quot;emptied&quot;&amp;&lt;/b&gt;",
    ] {
        assert!(record.contains(words), "{words:?}:\n{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_seen_does_not_run() {
    let acting = Acting::with_disk().await;
    let wrong = "0".repeat(64);
    for (body, status, words) in [
        (format!("step=empty&hash={wrong}&back=/incidents/INC-3"), 409, "has changed since you looked"),
        ("step=empty".to_owned(), 409, "has changed since you looked"),
        (format!("step=nothing&hash={wrong}"), 404, "find the step nothing"),
    ] {
        let answer = acting.post("kim", "/runs/RUN-1/approve", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    let back = acting.post("kim", "/runs/RUN-1/approve", &format!("step=empty&hash={wrong}&back=/incidents/INC-3")).await;
    assert!(back.body.contains("href=\"/incidents/INC-3\"") && back.body.contains("Go back and look"));
    let foreign = acting.post("kim", "/runs/RUN-1/approve", &format!("step=empty&hash={wrong}&back=//evil.example/")).await;
    assert!(!foreign.body.contains("evil.example"));
    assert_eq!(acting.wrote("emptied"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_agree_and_one_of_them_is_not_two() {
    let acting = Acting::with_disk().await;
    let form = format!("step=move&hash={}&back=/runs/RUN-1", acting.hash("RUN-1", "move").await);
    assert!(acting.get("kim", "/incidents/3").await.contains("Approve (1 of 2)"));
    assert_eq!(location(&acting.post("kim", "/runs/RUN-1/approve", &form).await), "/runs/RUN-1?done=approve-more");
    assert!(acting.get("kim", "/runs/RUN-1?done=approve-more").await.contains("when a second person agrees"));
    acting.until("/incidents/3", "You agreed. A second person has to").await;
    acting.post("Kim", "/runs/RUN-1/approve", &form).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(acting.wrote("moved"), None, "one person in two spellings is one");
    assert!(acting.get("robin", "/incidents/3").await.contains("Approve (2 of 2) and run"));
    acting.post("robin", "/runs/RUN-1/approve", &form).await;
    let page = acting.until("/runs/RUN-1", "<pre>moved</pre>").await;
    assert!(page.contains("allowed by kim and robin"), "{page}");
    assert_eq!(acting.wrote("moved").as_deref(), Some("moved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_back_asks_once_more() {
    let acting = Acting::with_disk().await;
    let page = acting.get("kim", "/incidents/3").await;
    assert!(page.contains("This cannot be taken back"), "{page}");
    assert!(page.contains("name=\"sure\" value=\"yes\" required"));
    let hash = acting.hash("RUN-1", "wipe").await;
    let without = acting.post("kim", "/runs/RUN-1/approve", &format!("step=wipe&hash={hash}")).await;
    assert_eq!(without.status, 400);
    assert!(without.body.contains("tick the box"), "{}", without.body);
    let with = acting.post("kim", "/runs/RUN-1/approve", &format!("step=wipe&hash={hash}&sure=yes")).await;
    assert_eq!(location(&with), "/runs/RUN-1?done=approve-more", "destroying takes two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_a_name_is_asked_for_one_and_remembers_it() {
    let acting = Acting::with_disk().await;
    let hash = acting.hash("RUN-1", "empty").await;
    let page = acting.server.get("/incidents/3").await.body;
    assert!(page.contains("name=\"who\" required"), "the form asks on the spot");
    let form = format!("step=empty&hash={hash}&back=%2Fincidents%2FINC-3");
    let asked = acting.server.form("/runs/RUN-1/approve", &form).await;
    assert_eq!(asked.status, 200);
    for words in ["Who are you?", "action=\"/runs/RUN-1/approve\"", &format!("name=\"hash\" value=\"{hash}\""), "Nothing was done yet"] {
        assert!(asked.body.contains(words), "{words}: {}", asked.body);
    }
    assert!(acting.runs.view("RUN-1").await.unwrap().steps.iter().all(|step| step.agreed.is_empty()));
    let signed = acting.server.form("/runs/RUN-1/approve", &format!("{form}&who=Robin+B")).await;
    assert_eq!(location(&signed), "/incidents/INC-3?done=approve");
    assert!(signed.header("set-cookie").unwrap().starts_with("paramedic_name=Robin.B; "), "{}", signed.headers);
    acting.until("/runs/RUN-1", "allowed by Robin.B").await;
    for machine in ["paramedic", "http", "policy"] {
        let answer = acting.post(machine, "/runs/RUN-1/again", "step=usage").await;
        assert_eq!(answer.status, 409, "{machine}");
        assert!(answer.body.contains("is no person"), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_left_out_run_again_and_taken_back() {
    let acting = Acting::with_disk().await;
    let hash = acting.hash("RUN-1", "empty").await;
    acting.post("kim", "/runs/RUN-1/approve", &format!("step=empty&hash={hash}")).await;
    while acting.wrote("emptied").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    acting.until("/incidents/3", "Its way back runs").await;
    assert_eq!(location(&acting.post("kim", "/runs/RUN-1/undo", "step=empty&why=wrong+log").await), "/runs/RUN-1?done=undo");
    acting.until("/runs/RUN-1", "the way back of empty").await;
    acting.gone("emptied").await;
    let acting = Acting::with_disk().await;
    assert_eq!(location(&acting.post("kim", "/runs/RUN-1/leave-out", "step=move&why=not+needed").await), "/runs/RUN-1?done=leave-out");
    acting.until("/runs/RUN-1", "kim left it out: not needed").await;
    assert_eq!(location(&acting.post("kim", "/runs/RUN-1/give", "input.who=kim&input.unknown=").await), "/runs/RUN-1?done=give");
    acting.until("/runs/RUN-1", "Looked at 2 of 2").await;
    let refused = acting.post("kim", "/runs/RUN-1/give", "input.who=%3Cb%3E").await;
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("the value of who") && !refused.body.contains("<b>\""), "{}", refused.body);
    assert_eq!(location(&acting.post("kim", "/runs/RUN-1/call-off", "why=enough").await), "/runs/RUN-1?done=call-off");
    assert!(acting.until("/runs/RUN-1", "called off").await.contains("kim called it off: enough"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_is_on_every_page_and_holds() {
    let acting = Acting::with_disk().await;
    for path in ["/", "/agents", "/incidents/3", "/runbooks", "/cost", "/nothing"] {
        let page = acting.server.get(path).await.body;
        assert!(page.contains("action=\"/brake\"") && page.contains("Stop everything"), "{path}");
    }
    // Stopping takes no name.
    let referer = format!("referer: http://{}/incidents/INC-3", acting.server.0);
    let form = "content-type: application/x-www-form-urlencoded";
    let stopped = acting.server.send("POST", "/brake", &[form, &referer], "what=writes&why=%3Cscript%3E").await;
    assert_eq!(location(&stopped), "/incidents/INC-3?done=stopped-writes");
    for path in ["/", "/incidents/3", "/runs/RUN-1"] {
        let page = acting.server.get(path).await.body;
        assert!(
            page.contains("<b>Changes are stopped</b>") && page.contains("&lt;script&gt;") && page.contains("Lift it"),
            "{path}: {page}"
        );
    }
    let hash = acting.hash("RUN-1", "empty").await;
    acting.post("kim", "/runs/RUN-1/approve", &format!("step=empty&hash={hash}")).await;
    acting.until("/incidents/3", "changes are stopped by the kill switch").await;
    assert_eq!(acting.wrote("emptied"), None);
    // Lifting does.
    let asked = acting.server.form("/brake", "what=nothing").await;
    assert!(asked.body.contains("Who are you?"), "{}", asked.body);
    assert_eq!(location(&acting.post("kim", "/brake", "what=nothing&why=looked").await), "/brake?done=lifted");
    assert!(!acting.server.get("/").await.body.contains("Changes are stopped"));
    std::fs::write(acting.stage.dir.path().join("BRAKE"), "").unwrap();
    let page = acting.server.get("/").await.body;
    assert!(page.contains("<b>Everything is stopped</b> by a stop file") && !page.contains("Lift it"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_stands_in_one_place() {
    let acting = Acting::with_disk().await;
    let page = acting.until("/approvals", "wait for approval").await;
    for words in ["wait", "INC-3", "Approve and run", "back\" value=\"/approvals\"", "likeliest cause logs"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let now = acting.get("kim", "/").await;
    assert!(now.contains("1 run</a>") || now.contains("1 run under way"), "{now}");
    assert!(now.contains("approval") && now.contains("waiting for approval"), "{now}");
    let runs = acting.get("kim", "/runs").await;
    assert!(runs.contains("1 run under way") && runs.contains("RUN-1") && !runs.contains("<script>"), "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_is_read_planned_and_found() {
    let acting = Acting::with(&[("disk.md", DISK), ("notes.md", "nothing here")]).await;
    let list = acting.get("kim", "/runbooks").await;
    for words in ["full-disk", "&lt;script&gt;alert(1)&lt;/script&gt; disk is full", "SEV2", "repeat-exact", "yours", "never", "notes.md"] {
        assert!(list.contains(words), "{words}: {list}");
    }
    assert!(acting.get("kim", "/runbooks?text=STORAGE").await.contains("full-disk"), "by service");
    assert!(acting.get("kim", "/runbooks?text=nothing-such").await.contains("No runbook matches"));
    let page = acting.get("kim", "/runbooks/full-disk").await;
    for words in [
        "How full is it?",
        "looks</span> <b>usage",
        "changes</span> <b>empty",
        "destroys</span> <b>wipe",
        "&lt;img src=x",
        "name=\"input.who\"",
        "must match",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    let plan = acting.get("kim", "/runbooks/full-disk?plan=1&input.who=kim&runbook=full-disk&incident=").await;
    assert!(plan.contains("What would run") && plan.contains("emptied") && !plan.contains("Not given"), "{plan}");
    assert!(acting.runs.lines(|_| true).is_empty(), "a plan runs nothing");
    assert_eq!(acting.server.get("/runbooks/none-such").await.status, 404);
    assert_eq!(acting.server.get("/runs/RUN-99").await.status, 404);
    assert_eq!(acting.server.get("/runs/x").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_planned_and_started_as_a_run() {
    let acting = Acting::with(&[]).await;
    let list = acting.get("kim", "/actions").await;
    assert!(list.contains("gateway.switch_set"), "{list}");
    let form = acting.get("kim", "/actions/gateway.switch_set").await;
    assert!(form.contains("name=\"arg.switch\"") && form.contains("Plan it"), "{form}");
    let arguments = "arg.switch=fast_fail&arg.value=true&arg.ttl=10m";
    let planned = acting.post("kim", "/actions/gateway.switch_set/plan", arguments).await;
    assert_eq!(planned.status, 200);
    for words in ["The plan", "Touches", "Way back", "Start it"] {
        assert!(planned.body.contains(words), "{words}: {}", planned.body);
    }
    let wrong = acting.post("kim", "/actions/gateway.switch_set/plan", "arg.switch=%3Cscript%3E&arg.value=1&arg.ttl=10m").await;
    assert!(wrong.body.contains("said bad") && !wrong.body.contains("<script>"), "{}", wrong.body);
    let started = acting.post("kim", "/actions/gateway.switch_set/start", &format!("{arguments}&affected=1&why=api+slow")).await;
    assert_eq!(location(&started), "/runs/RUN-1?done=started");
    let page = acting.until("/runs/RUN-1", "fast_fail").await;
    assert!(page.contains("Approve and run"), "{page}");
    let looked = acting.post("kim", "/actions/gateway.switches/start", "").await;
    assert!(looked.status == 200 && looked.body.contains("Look again"), "what only looks answers at once: {}", looked.body);
    assert_eq!(acting.server.get("/actions/none.such").await.status, 404);
    let set = acting.post("kim", "/switches", "switch=fast_fail&value=true&scope=all&minutes=5&why=try").await;
    assert_eq!(location(&set), "/switches?done=switch-set");
    assert!(acting.get("kim", "/switches").await.contains("1 switch is set"));
    let cleared = acting.post("kim", "/switches", "do=clear&switch=fast_fail&scope=all").await;
    assert_eq!(location(&cleared), "/switches?done=switch-cleared");
    let asked = acting.post("web", "/switches", "switch=fast_fail&value=true&scope=&for=5m&why=try").await;
    assert!(asked.body.contains("Who are you?") && asked.body.contains("name=\"for\" value=\"5m\""), "{}", asked.body);
    for (form, done) in [
        ("switch=blocked_user%3A&of=ana%40x&value=true&scope=&for=30m&why=a+loop", "switch-set"),
        ("switch=rate_limit_per_minute&value=1200&scope=user%3Du-42&for=1h&why=a+loop", "switch-set"),
        ("switch=daily_budget_dollars&value=20&scope=team%3Dsearch&for=&why=a+cap", "switch-lasts"),
        ("switch=ENABLE_FAST_FAIL&value=true&scope=&for=5m&why=%3Cb%3E", "switch-set"),
    ] {
        let answer = acting.post("kim", "/switches", form).await;
        assert_eq!((answer.status, location(&answer)), (303, format!("/switches?done={done}").as_str()), "{form}: {}", answer.body);
    }
    let board = acting.get("kim", "/switches").await;
    for words in [
        "4 switches are set",
        "<b>ana@x</b> = <b>true</b> for all",
        "<b>1,200</b> for user:u-42",
        "<b>$20.00</b> for team:search · until it is cleared",
        "value=\"blocked_user:ana@x\"",
        "&lt;b&gt;",
        "MAX_HISTORY_LENGTH",
    ] {
        assert!(board.contains(words), "{words}: {board}");
    }
    assert_eq!(board.matches("name=\"do\" value=\"clear\"").count(), 4);
    for (form, told) in [
        ("switch=fast_fail&value=true&scope=all&for=&why=x", "it must be said for how long"),
        ("switch=fast_fail&value=true&scope=all&for=25h&why=x", "at most 24 h"),
        ("switch=fast_fail&value=true&scope=user%3D&for=5m&why=x", "it must be all, or key"),
        ("switch=blocked_user%3A&of=&value=true&for=5m&why=x", "there is none of that name"),
        ("do=clear&switch=max_input_bytes&scope=all", "it is not set"),
    ] {
        let refused = acting.post("kim", "/switches", form).await;
        assert!((400..500).contains(&refused.status) && refused.body.contains(told), "{form}: {} {}", refused.status, refused.body);
    }
    acting.post("kim", "/switches", "do=clear&switch=blocked_user%3Aana%40x&scope=all").await;
    assert!(acting.get("kim", "/switches").await.contains("3 switches are set"));
    for user in 0..300 {
        let form = format!("switch=blocked_user%3A&of=user-{user}-{}&value=true&for=5m&why={}", "x".repeat(60), "why+".repeat(30));
        assert_eq!(acting.post("kim", "/switches", &form).await.status, 303);
    }
    let board = acting.get("web", "/switches").await;
    assert!(board.contains("of 300 shown") && board.len() < 60_000, "{} bytes", board.len());
    eprintln!("a switchboard with 303 settings has {} bytes", board.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn people_checklist_and_evidence_are_forms() {
    let acting = Acting::with(&[]).await;
    for (path, body, shown) in [
        ("/incidents/3/take", "", "<dd>kim</dd>"),
        ("/incidents/3/assign", "role=communications&person=robin", "<dd>robin</dd>"),
        ("/incidents/3/hand-over", "role=commander&person=robin&reason=end+of+shift", "kim handed commander over to robin"),
        ("/incidents/3/tick", "tick=lasting", "ticked by kim"),
        ("/incidents/3/attach", "name=%3Cgateway%3E.log&text=529+overloaded&source=tail", "&lt;gateway&gt;.log"),
    ] {
        let answer = acting.post("kim", path, body).await;
        let page = acting.get("kim", location(&answer)).await;
        assert!(page.contains(shown), "{path}: {shown}\n{page}");
    }
    let file = acting.server.get("/incidents/3/attachments/1").await;
    assert_eq!((file.status, file.body.as_str()), (200, "529 overloaded"));
    assert!(file.header("content-disposition").unwrap().starts_with("attachment"), "{}", file.headers);
    assert_eq!(acting.server.get("/incidents/3/attachments/9").await.status, 404);
    assert!(acting.server.form("/incidents/3/take", "").await.body.contains("Who are you?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_stays_a_small_page() {
    let mut text = "# Long\n\n## Investigation\n".to_owned();
    for i in 0..120 {
        text.push_str(&format!(
            "Look {i} {}\n```sh {{ name=look{i} timeout=20s }}\nhead -c 9000 /dev/zero | tr '\\0' '<'\n```\n",
            "\"<&'>".repeat(30)
        ));
    }
    text.push_str("## Resolution\n");
    for i in 0..80 {
        text.push_str(&format!("### Cause: {i} {} {{ #c{i} }}\n**Symptoms:**\n\n```\n<<<<\n```\n**Resolution:**\n\nFix {i}\n```sh {{ name=fix{i} mode=write approve=any }}\ntouch {}/{}\n```\n", "<&>".repeat(30), "a".repeat(50), "\"<&'>".repeat(120)));
    }
    let acting = Acting::with(&[("long.md", &text)]).await;
    assert_eq!(acting.post("kim", "/runs", "runbook=long&incident=INC-2").await.status, 303);
    acting.until("/incidents/2", "Looked at 120 of 120").await;
    for path in [
        "/incidents/2",
        "/runs/RUN-1",
        "/runs/RUN-1?all=1",
        "/runs/RUN-1?all=100",
        "/runs/RUN-1?after=100",
        "/approvals",
        "/runbooks/long",
        "/runbooks/long?plan=1",
        "/runbooks",
        "/runs",
        "/",
    ] {
        let (mut best, mut page) = (std::time::Duration::MAX, String::new());
        for _ in 0..3 {
            let began = std::time::Instant::now();
            page = acting.get("kim", path).await;
            best = best.min(began.elapsed());
        }
        assert!(page.len() < 60_000, "{path} has {} bytes", page.len());
        assert!(!page.contains("<<"), "{path} shows text as text");
        assert!(best < std::time::Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 }), "{path} took {best:?}");
        eprintln!("{path}: {best:?}, {} bytes", page.len());
    }
    let page = acting.get("kim", "/incidents/2").await;
    assert!(page.contains("further steps") && page.contains("/runs/RUN-1?all=1"), "what is left out is said");
    let first = acting.get("kim", "/runs/RUN-1?all=1").await;
    assert!(first.contains("Further steps"), "{first}");
}
