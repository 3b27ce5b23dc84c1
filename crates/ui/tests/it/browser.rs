//! The pages in a real Chromium: no sideways scrolling on a phone, nothing refused by the policy, live and by keyboard.
//! Skipped where `chromedriver` is not installed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Server;
use crate::{serve, served, stage};

/// An expression whose answer is drawn.
const CHART: &str = "/query?query=sum+by+(code)+(rate(gateway_requests_total[5m]))";

/// A browser driven over WebDriver (W3C). Ends with the test.
struct Browser {
    driver: Child,
    at: Server,
    session: String,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser outlives its driver unless it is told; also when the test failed in the middle.
        if let (false, Ok(mut stream)) = (self.session.is_empty(), std::net::TcpStream::connect(self.at.0)) {
            let request = format!("DELETE {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.session, self.at.0);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    async fn start() -> Option<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?.port();
        let driver = Command::new("chromedriver").arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let profile = tempfile::tempdir().ok()?;
        let mut browser = Self { driver, at: Server(SocketAddr::from(([127, 0, 0, 1], port))), session: String::new(), _profile: profile };
        browser.wait_for_driver().await;
        let mut arguments: Vec<String> = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
            .split(' ')
            .map(str::to_owned)
            .collect();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args": arguments}}}});
        let created = browser.at.post("/session", &wanted.to_string()).await;
        browser.session =
            format!("/session/{}", created.json()["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{}", created.body)));
        Some(browser)
    }

    async fn wait_for_driver(&self) {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(self.at.0).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "chromedriver does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn call(&self, path: &str, body: Value) -> Value {
        let answer = self.at.post(&format!("{}{path}", self.session), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()["value"].clone()
    }

    async fn open(&self, server: &Server, path: &str) {
        self.call("/url", json!({"url": format!("http://{}{path}", server.0)})).await;
    }

    async fn run(&self, script: &str) -> Value {
        self.call("/execute/sync", json!({"script": script, "args": []})).await
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.call("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    async fn press(&self, keys: &str) {
        let steps: Vec<Value> =
            keys.chars().flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]).collect();
        self.call("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": steps}]})).await;
    }

    /// Waits until a script gives `true`; how long that took.
    async fn until(&self, script: &str) -> Duration {
        let began = Instant::now();
        while self.run(script).await != json!(true) {
            assert!(began.elapsed() < Duration::from_secs(10), "never true: {script}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    async fn complaints(&self) -> Vec<String> {
        let log = self.call("/se/log", json!({"type": "browser"})).await;
        log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_a_desk_and_a_phone_in_light_and_dark() {
    let Some(browser) = Browser::start().await else { return eprintln!("skipped: chromedriver is not installed") };
    let metered = stage::Stage::with_metrics().await;
    let server = serve(&metered).await;
    let stuck = format!("/agents/{}", stage::agent("stuck"));
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")] {
        browser
            .devtools(
                "Emulation.setDeviceMetricsOverride",
                json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}),
            )
            .await;
        browser.devtools("Emulation.setEmulatedMedia", json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]})).await;
        for path in [
            "/",
            "/agents",
            &stuck,
            "/incidents",
            "/incidents/2",
            "/incidents/3",
            "/alerts",
            "/rules?why=GatewayErrors",
            "/targets",
            "/query",
            CHART,
            "/events",
            "/cost",
            "/connect",
            "/me",
        ] {
            browser.open(&server, path).await;
            let measured =
                browser.run("return [document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]").await;
            assert!(measured[0].as_u64().unwrap() <= width, "{path} is {} wide at {width}", measured[0]);
            let dark = measured[1].as_str().unwrap() == "rgb(17, 19, 23)";
            assert_eq!(dark, scheme == "dark", "{path}: {}", measured[1]);
            browser.until("return document.getElementById('live').textContent === 'live'").await;
        }
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "the console stays empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_show_at_once_and_keys_work() {
    let Some(browser) = Browser::start().await else { return eprintln!("skipped: chromedriver is not installed") };
    let (_stage, server) = served().await;
    browser.open(&server, "/incidents/2").await;
    browser.until("return document.getElementById('live').textContent === 'live'").await;
    browser.run("window.same = true").await;
    server.post("/api/v1/incidents/2/note", r#"{"text":"seen at once"}"#).await;
    let took = browser.until("return document.body.innerText.includes('seen at once') && window.same").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    eprintln!("a change was shown after {took:?}");
    browser.press("n").await;
    browser.until("return document.activeElement.name === 'text'").await;
    browser.press("\u{e00c}?").await;
    browser.until("return document.getElementById('keys').open").await;
    browser.open(&server, "/agents").await;
    browser.press("/billing").await;
    browser.until("return document.querySelectorAll('#agents [data-row]').length === 1").await;
    browser.press("\u{e00c}j\u{e007}").await;
    browser.until("return location.pathname.startsWith('/agents/') && document.title.startsWith('billing-api')").await;
    browser.open(&server, "/incidents/3").await;
    browser.press("a").await;
    browser.until("return document.activeElement.name === 'who'").await;
    browser.run("document.cookie = 'paramedic_name=kim'").await;
    browser.open(&server, "/incidents/3").await;
    browser.press("a").await;
    browser.until("return document.querySelector('.said')?.innerText.startsWith('Acknowledged') === true").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_is_worked_through_on_a_phone_by_keys() {
    let Some(browser) = Browser::start().await else { return eprintln!("skipped: chromedriver is not installed") };
    let acting = crate::respond::Acting::with_disk().await;
    let server = &acting.server;
    for (width, scheme) in [(1280, "light"), (390, "dark")] {
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600});
        browser.devtools("Emulation.setDeviceMetricsOverride", screen).await;
        browser.devtools("Emulation.setEmulatedMedia", json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]})).await;
        for path in [
            "/",
            "/incidents/3",
            "/runbooks",
            "/runbooks/full-disk",
            "/runbooks/full-disk?plan=1",
            "/runs",
            "/runs/RUN-1",
            "/runs/RUN-1?all=1",
            "/approvals",
            "/actions",
            "/actions/gateway.switch_set",
            "/switches",
            "/brake",
        ] {
            browser.open(server, path).await;
            browser.run("for (const one of document.querySelectorAll('details')) one.open = true").await;
            let wide = browser.run("return document.documentElement.scrollWidth").await.as_u64().unwrap();
            assert!(wide <= width, "{path} is {wide} wide at {width}");
        }
    }
    browser.run("document.cookie = 'paramedic_name=kim'").await;
    browser.open(server, "/incidents/3").await;
    browser.until("return document.getElementById('live').textContent === 'live'").await;
    browser.press("r").await;
    browser.until("return document.activeElement.textContent === 'Approve and run'").await;
    assert_eq!(acting.wrote("emptied"), None, "going to the step runs nothing");
    browser.press("\u{e007}").await;
    browser.until("return document.querySelector('.said')?.innerText.startsWith('Approved') === true").await;
    let began = Instant::now();
    while acting.wrote("emptied").is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_come_onto_the_traffic_page_by_themselves() {
    let Some(browser) = Browser::start().await else { return eprintln!("skipped: chromedriver is not installed") };
    let passing = crate::traffic::Passing::with(&[("daily_budget_dollars", 4.into())]).await;
    for (user, model) in
        [("ana", "claude-opus-5"), ("somebody-with-a-long-name@a-long-domain.example", "claude-a-model-with-a-long-name-busy")]
    {
        passing.call(user, model).await;
    }
    passing.recorded(2).await;
    let server = &passing.acting.server;
    for width in [1280, 390] {
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600});
        browser.devtools("Emulation.setDeviceMetricsOverride", screen).await;
        for path in ["/traffic", "/traffic?user=ana&why=cost", "/switches"] {
            browser.open(server, path).await;
            browser.run("for (const one of document.querySelectorAll('main details')) one.open = true").await;
            let wide = browser.run("return document.documentElement.scrollWidth").await.as_u64().unwrap();
            assert!(wide <= width, "{path} is {wide} wide at {width}");
        }
    }
    browser.open(server, "/traffic").await;
    browser.until("return document.getElementById('live').textContent === 'live'").await;
    browser.run("window.same = true").await;
    passing.call("cy-who-is-new", "claude-opus-5").await;
    let took = browser.until("return document.body.innerText.includes('cy-who-is-new') && window.same").await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
