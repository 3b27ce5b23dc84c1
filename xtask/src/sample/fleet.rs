//! The story: twenty minutes of six agents at a made-up company.
//!
//! All work well at first. At 12:06 the model API is overloaded for five minutes: three agents retry, one gives up. Later
//! one agent loops on a test, one has an API key that was withdrawn, and one waits for a person.

use serde_json::{Value, json};

use super::session::{Seconds, Session, timestamp};

const OPUS: &str = "claude-opus-4-5-20251101";
const SONNET: &str = "claude-sonnet-4-5-20250929";
const HAIKU: &str = "claude-haiku-4-5-20251001";

/// Every file of the sample, by its name below `sample/`.
pub(super) fn files() -> Vec<(String, String)> {
    let mut files = vec![billing().file()];
    files.extend(search().into_iter().map(Session::file));
    files.push(tidepool().file());
    files.push(lantern().file());
    files.push(orchard().file());
    let (session, hooks) = kiln();
    files.push(session.file());
    files.push(("hooks.jsonl".to_owned(), hooks));
    files
}

fn bash(command: &str, why: &str) -> Value {
    json!({"command": command, "description": why})
}

fn read(session: &Session, file: &str) -> Value {
    json!({"file_path": format!("{}/{file}", session.cwd())})
}

fn edit(session: &Session, file: &str, from: &str, to: &str) -> Value {
    json!({"file_path": format!("{}/{file}", session.cwd()), "old_string": from, "new_string": to})
}

/// Healthy for six minutes, eight retries in two bursts during the outage, then done.
fn billing() -> Session {
    let mut s = Session::new("ines/harbour/billing", "round-half-even", OPUS);
    s.prompt(4.0, "Invoice totals are off by a cent for some customers. Find out why and fix the rounding.");
    s.work(9.2, "Grep", json!({"pattern": "round(", "path": "src"}), 0.4, "src/money.rs:41\nsrc/invoice.rs:118\nsrc/invoice.rs:163");
    let input = read(&s, "src/money.rs");
    s.work(16.0, "Read", input, 0.2, "pub fn to_cents(amount: f64) -> i64 {\n    (amount * 100.0).round() as i64\n}");
    let input = read(&s, "src/invoice.rs");
    s.work(24.5, "Read", input, 0.2, "let total = lines.iter().map(|line| to_cents(line.price * line.quantity)).sum();");
    s.work(61.3, "Bash", bash("cargo test invoice", "Run the invoice tests"), 14.0, "test result: ok. 31 passed; 0 failed");
    let input = edit(&s, "src/money.rs", "(amount * 100.0).round() as i64", "amount.to_cents_half_even()");
    s.work(112.8, "Edit", input, 0.1, "The file has been updated.");
    s.work(158.0, "Bash", bash("cargo test money", "Run the money tests"), 11.5, "test result: ok. 12 passed; 0 failed");
    let input = edit(&s, "src/invoice.rs", "to_cents(line.price * line.quantity)", "line.price_cents() * line.quantity");
    s.work(214.6, "Edit", input, 0.1, "The file has been updated.");
    s.work(271.9, "Bash", bash("cargo test", "Run every test"), 38.0, "test result: ok. 204 passed; 0 failed");
    s.answer(331.0, "The cent was lost because each line was rounded before the sum. Prices are kept in cents now; all 204 tests pass.");

    s.prompt(366.0, "Good. Write a test with the three invoices from the complaint.");
    let at = s.retries(370.4, 3);
    s.work(at + 6.0, "Read", read_of("/home/ines/harbour/billing/tests/complaints.rs"), 0.2, "// three invoices, see the complaint folder");
    let at = s.retries(at + 21.0, 5);
    let input = edit(&s, "tests/complaints.rs", "// three invoices", "#[test]\nfn three_complaints() {");
    s.work(at + 8.0, "Edit", input, 0.1, "The file has been updated.");
    s.work(at + 40.0, "Bash", bash("cargo test complaints", "Run the new test"), 13.0, "test result: ok. 3 passed; 0 failed");
    s.answer(at + 71.0, "The three invoices are in tests/complaints.rs; each gives the total that the customer expected.");

    s.prompt(840.0, "Add a line to the changelog.");
    let input = edit(&s, "CHANGELOG.md", "## Unreleased", "## Unreleased\n\n- Totals round half to even.");
    s.work(851.0, "Edit", input, 0.1, "The file has been updated.");
    s.answer(862.0, "Done.");
    s
}

fn read_of(file: &str) -> Value {
    json!({"file_path": file})
}

/// Two sub-agents look around; then the outage uses up all ten retries and the turn fails. A person goes on later.
fn search() -> Vec<Session> {
    let mut s = Session::new("ines/harbour/search", "synonyms", OPUS);
    let mut index = s.subagent(HAIKU);
    let mut queries = s.subagent(HAIKU);
    s.prompt(18.0, "Customers who search for 'sofa' do not find 'couch'. Plan synonyms for the search index, then build them.");
    let first = s.call(
        31.0,
        "Task",
        json!({"description": "Read the index", "prompt": "How is the index built? Name the files.", "subagent_type": "Explore"}),
    );
    let second = s.call(
        32.4,
        "Task",
        json!({"description": "Read the queries", "prompt": "What do people search for without a hit?", "subagent_type": "Explore"}),
    );

    index.prompt(33.0, "How is the index built? Name the files.");
    index.work(38.0, "Glob", json!({"pattern": "src/index/**/*.rs"}), 0.2, "src/index/build.rs\nsrc/index/tokens.rs\nsrc/index/store.rs");
    index.work(46.0, "Read", read_of("/home/ines/harbour/search/src/index/tokens.rs"), 0.2, "pub fn tokens(text: &str) -> Vec<Token>");
    index.work(
        58.0,
        "Read",
        read_of("/home/ines/harbour/search/src/index/build.rs"),
        0.2,
        "for document in documents { for token in tokens(&document.title) {",
    );
    index.answer(74.0, "build.rs walks the documents and tokens.rs splits the text; synonyms fit between the two.");

    queries.prompt(34.0, "What do people search for without a hit?");
    queries.work(
        41.0,
        "Bash",
        bash("zgrep -h 'hits=0' logs/*.gz | cut -f3 | sort | uniq -c | sort -nr | head", "Count searches without a hit"),
        9.0,
        "  412 couch\n  238 settee\n  201 bookshelf\n   97 hoover",
    );
    queries.work(63.0, "Grep", json!({"pattern": "bookcase", "path": "data"}), 0.5, "data/catalogue.csv");
    queries.answer(88.0, "Four words make half of the empty results: couch, settee, bookshelf and hoover.");

    s.result(75.0, &first, "build.rs walks the documents and tokens.rs splits the text; synonyms fit between the two.", false);
    s.result(89.0, &second, "Four words make half of the empty results: couch, settee, bookshelf and hoover.", false);
    s.work(
        121.0,
        "Write",
        json!({"file_path": "/home/ines/harbour/search/src/index/synonyms.rs", "content": "pub struct Synonyms(BTreeMap<Token, Token>);"}),
        0.1,
        "File created.",
    );
    s.work(186.0, "Bash", bash("cargo check", "Check the new module"), 17.0, "Finished `dev` profile in 16.61s");
    let input = edit(&s, "src/index/build.rs", "tokens(&document.title)", "synonyms.expand(tokens(&document.title))");
    s.work(249.0, "Edit", input, 0.1, "The file has been updated.");
    s.work(318.0, "Bash", bash("cargo test index", "Run the index tests"), 21.0, "test result: ok. 57 passed; 0 failed");

    let at = s.retries(377.2, 10);
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_01SampleSampleSampleSamp"}"#;
    s.failure(at, 529, "overloaded", &format!("API Error: 529 {body}"));

    s.prompt(648.0, "Please go on where you stopped.");
    let at = s.retries(652.5, 2);
    s.work(at + 9.0, "Bash", bash("cargo test", "Run every test"), 33.0, "test result: ok. 163 passed; 0 failed");
    s.work(
        at + 68.0,
        "Bash",
        bash("cargo run --bin try-search -- couch", "Search for couch"),
        4.0,
        "3 hits: Sofa Lund, Sofa Ebbe, Corner sofa Vik",
    );
    s.answer(at + 93.0, "'couch' finds the sofas now. The index was half built when the call failed, so I built it anew.");
    vec![s, index, queries]
}

/// Feels the outage first: three bursts, six retries in all, and recovers each time.
fn tidepool() -> Session {
    let mut s = Session::new("tomas/tidepool", "main", SONNET);
    s.prompt(96.0, "The tide tables page takes four seconds. Make it fast.");
    s.work(104.0, "Bash", bash("npm run profile -- tides", "Profile the page"), 19.0, "render 210 ms, query 3611 ms (41 queries)");
    s.work(151.0, "Grep", json!({"pattern": "loadStation", "path": "app"}), 0.3, "app/tides.ts:27\napp/station.ts:9");
    s.work(178.0, "Read", read_of("/home/tomas/tidepool/app/tides.ts"), 0.2, "for (const id of stations) rows.push(await loadStation(id))");
    let input = edit(
        &s,
        "app/tides.ts",
        "for (const id of stations) rows.push(await loadStation(id))",
        "const rows = await loadStations(stations)",
    );
    s.work(226.0, "Edit", input, 0.1, "The file has been updated.");
    s.work(284.0, "Bash", bash("npm test", "Run the tests"), 26.0, "Tests: 88 passed, 88 total");

    let at = s.retries(364.0, 2);
    s.work(at + 5.0, "Bash", bash("npm run profile -- tides", "Profile again"), 11.0, "render 205 ms, query 96 ms (2 queries)");
    let at = s.retries(at + 26.0, 3);
    s.work(at + 7.0, "Read", read_of("/home/tomas/tidepool/app/station.ts"), 0.2, "export async function loadStations(ids: string[])");
    s.work(500.0, "Bash", bash("npm run lint", "Lint"), 8.0, "No problems found.");
    let at = s.retries(599.0, 1);
    s.answer(at + 12.0, "One query per station became one query for all: 3.6 s are now 0.1 s.");
    s
}

/// Edits and runs the same failing test six times; a person stops it.
fn lantern() -> Session {
    let mut s = Session::new("tomas/lantern/docs", "pagination", SONNET);
    s.prompt(690.0, "The last page of the guide is cut off. Make the pagination test pass.");
    s.work(
        697.0,
        "Read",
        read_of("/home/tomas/lantern/docs/src/paginate.py"),
        0.2,
        "def pages(items, size):\n    return len(items) // size",
    );
    let failure = "Exit code 1\nFAILED tests/test_paginate.py::test_last_page - AssertionError: assert 4 == 5\n1 failed, 11 passed";
    let attempts = [
        ("len(items) // size", "len(items) // size + 1"),
        ("len(items) // size + 1", "-(-len(items) // size)"),
        ("-(-len(items) // size)", "math.ceil(len(items) / size)"),
        ("math.ceil(len(items) / size)", "(len(items) + size - 1) // size"),
        ("(len(items) + size - 1) // size", "max(1, math.ceil(len(items) / size))"),
        ("max(1, math.ceil(len(items) / size))", "len(range(0, len(items), size))"),
    ];
    for (round, (from, to)) in (0_u32..).zip(attempts) {
        let at: Seconds = 712.0 + f64::from(round) * 41.0;
        let input = edit(&s, "src/paginate.py", from, to);
        s.work(at, "Edit", input, 0.1, "The file has been updated.");
        let call = s.call(at + 9.0, "Bash", bash("pytest tests/test_paginate.py", "Run the pagination test"));
        s.result(at + 14.0, &call, failure, true);
    }
    s.prompt(975.0, "Stop. The fixture has 4 pages, not 5; look at it before you edit again.");
    s.work(983.0, "Read", read_of("/home/tomas/lantern/docs/tests/fixtures/guide.json"), 0.2, "{\"pages\": 4}");
    let input = edit(&s, "tests/test_paginate.py", "== 5", "== 4");
    s.work(1002.0, "Edit", input, 0.1, "The file has been updated.");
    s.work(1019.0, "Bash", bash("pytest tests/test_paginate.py", "Run the pagination test"), 5.0, "12 passed");
    s.answer(1037.0, "You are right: the expectation was wrong. I should have read the fixture first.");
    s
}

/// A key that was withdrawn while the agent worked.
fn orchard() -> Session {
    let mut s = Session::new("mira/orchard", "nightly-report", SONNET);
    s.prompt(828.0, "Send the nightly harvest report as a table instead of prose.");
    s.work(
        836.0,
        "Read",
        read_of("/home/mira/orchard/report.py"),
        0.2,
        "def report(rows):\n    return ' '.join(sentence(row) for row in rows)",
    );
    let input = edit(&s, "report.py", "' '.join(sentence(row) for row in rows)", "table(rows)");
    s.work(869.0, "Edit", input, 0.1, "The file has been updated.");
    s.failure(905.0, 401, "authentication_failed", "Invalid API key · Fix external API key");
    s
}

/// Asks for permission and waits; the hooks tell it, the transcript only shows a call without a result.
fn kiln() -> (Session, String) {
    let mut s = Session::new("mira/kiln", "staging", OPUS);
    s.prompt(930.0, "Put the new glaze calculator on staging.");
    s.work(941.0, "Bash", bash("make build", "Build the site"), 24.0, "built 61 pages");
    s.work(984.0, "Bash", bash("make check", "Check the links"), 12.0, "0 broken links");
    let command = bash("make deploy TARGET=staging", "Deploy to staging");
    let call = s.call(1020.0, "Bash", command.clone());
    let common = json!({
        "session_id": s.id, "cwd": s.cwd(), "permission_mode": "default",
        "transcript_path": format!("/home/mira/.claude/projects/-home-mira-kiln/{}.jsonl", s.id)
    });
    let hook = |at: Seconds, own: Value| {
        let mut body = common.clone();
        if let (Value::Object(body), Value::Object(own)) = (&mut body, own) {
            body.extend(own);
        }
        json!({"at": timestamp(at), "body": body}).to_string()
    };
    let hooks = [
        hook(930.0, json!({"hook_event_name": "UserPromptSubmit", "prompt": "Put the new glaze calculator on staging."})),
        hook(1020.1, json!({"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": command, "tool_use_id": call})),
        hook(1020.3, json!({"hook_event_name": "PermissionRequest", "tool_name": "Bash", "tool_input": command})),
        hook(
            1026.4,
            json!({"hook_event_name": "Notification", "notification_type": "permission_prompt", "message": "Claude needs your permission to use Bash"}),
        ),
    ];
    (s, hooks.join("\n") + "\n")
}
