//! The pages in a real browser, wide and narrow, light and dark.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::fixture::{Home, Instance, until};
use crate::{skip, tools};

/// A page may weigh so much.
const PAGE_BYTES_MAX: usize = 60_000;

fn with_sample() -> (Home, Instance) {
    let home = Home::new();
    let sample = tools::workspace().join("sample/projects");
    let status = Command::new("cp").arg("-r").arg(sample).arg(home.claude()).status().unwrap();
    assert!(status.success());
    let instance = home.up();
    let settled = until(Duration::from_secs(20), || (instance.incidents().len() >= 3).then_some(()));
    assert!(settled.is_some(), "{}", home.log());
    (home, instance)
}

/// The pages and a word that each must show.
fn pages(instance: &Instance) -> Vec<(&'static str, String, &'static str)> {
    let incidents = instance.incidents();
    let outage = incidents.iter().find(|one| one["type"] == "api_failure").unwrap();
    let agent = instance.agents().iter().find_map(|agent| agent["id"].as_str().filter(|id| !id.contains('/')).map(str::to_owned)).unwrap();
    vec![
        ("now", "/".to_owned(), "incident"),
        ("agents", "/agents".to_owned(), "billing"),
        ("agent", format!("/agents/{agent}"), "svg"),
        ("incidents", "/incidents".to_owned(), "SEV"),
        ("incident", format!("/incidents/{}", outage["id"].as_str().unwrap()), "529"),
        ("alerts", "/alerts".to_owned(), "What the detectors notice"),
    ]
}

#[test]
fn pages_are_small_closed_and_show_what_they_are_for() {
    let (_home, instance) = with_sample();
    for (name, path, word) in pages(&instance) {
        let answer = instance.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text();
        assert!(text.contains(word), "{name} does not show {word}");
        assert!(answer.body.len() < PAGE_BYTES_MAX, "{name}: {} bytes", answer.body.len());
        assert!(answer.head.contains("content-security-policy"), "{name}: {}", answer.head);
        assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{name} loads something from elsewhere");
    }
}

#[test]
fn text_from_agents_is_escaped_on_every_page() {
    let home = Home::new();
    let folder = home.claude().join("projects/-evil");
    fs::create_dir_all(&folder).unwrap();
    let evil = "<script>alert(1)</script><img src=x onerror=alert(1)>";
    let lines = [
        serde_json::json!({"type": "user", "sessionId": "e1", "uuid": "u1", "cwd": evil, "timestamp": "2026-01-01T12:00:00.000Z", "message": {"role": "user", "content": evil}}),
        serde_json::json!({"type": "assistant", "sessionId": "e1", "uuid": "u2", "cwd": evil, "timestamp": "2026-01-01T12:00:05.000Z", "isApiErrorMessage": true, "error": "authentication_failed", "apiErrorStatus": 401,
            "message": {"id": "m", "model": "<synthetic>", "role": "assistant", "type": "message", "usage": {}, "content": [{"type": "text", "text": evil}]}}),
    ];
    fs::write(folder.join("e1.jsonl"), lines.map(|line| line.to_string() + "\n").concat()).unwrap();
    let instance = home.up();
    until(Duration::from_secs(10), || (!instance.agents().is_empty()).then_some(())).expect("an agent");
    let agent = instance.agents()[0]["id"].as_str().unwrap().to_owned();
    let mut paths = vec!["/".to_owned(), "/agents".to_owned(), format!("/agents/{agent}"), "/incidents".to_owned(), "/alerts".to_owned()];
    paths.extend(instance.incidents().iter().map(|one| format!("/incidents/{}", one["id"].as_str().unwrap())));
    for path in paths {
        let text = instance.get(&path).text();
        assert!(!text.contains("<script>alert") && !text.contains("<img src=x"), "{path}");
    }
}

#[test]
fn pages_open_in_a_browser_wide_and_narrow_light_and_dark() {
    let Some(browser) = tools::browser() else { skip!("no Chromium (`cargo xtask setup`)") };
    let (home, instance) = with_sample();
    let screens = tools::target().join("screens");
    fs::create_dir_all(&screens).unwrap();
    for (name, path, _) in pages(&instance) {
        for (width, height) in [(1280, 900), (390, 844)] {
            for (scheme, number) in [("light", 1), ("dark", 0)] {
                let file = screens.join(format!("{name}-{width}-{scheme}.png"));
                fs::remove_file(&file).ok();
                shoot(&browser, home.path(), &format!("http://{}{path}", instance.http()), (width, height), number, &file);
                let bytes = fs::metadata(&file).map(|file| file.len()).unwrap_or_default();
                assert!(bytes > 5_000, "{}: {bytes} bytes", file.display());
            }
        }
    }
    println!("screens in {}", screens.display());
}

fn shoot(browser: &Path, home: &Path, url: &str, (width, height): (u32, u32), scheme: u32, file: &Path) {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--timeout=5000"])
        .arg(format!("--user-data-dir={}", home.join("browser").display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
