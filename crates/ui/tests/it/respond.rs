//! A stage on which runbooks run: a real desk for runs over the stage's journal, with steps that are real programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_action::Actions;
use paramedic_action::flag::FlagStore;
use paramedic_action::switch::SwitchStore;
use paramedic_api::context::Responding;
use paramedic_runbook::desk::Parts;
use paramedic_runbook::execute::Hands;
use paramedic_runbook::{RunDesk, Settings};

use crate::client::{Answer, Server};
use crate::serve;
use crate::stage::Stage;

pub struct Acting {
    pub stage: Stage,
    pub server: Server,
    pub runs: Arc<RunDesk>,
    /// Where runbooks lie and steps write.
    pub folder: tempfile::TempDir,
}

/// A runbook whose texts are hostile, with a step of each kind. `@` stands for the folder.
pub const DISK: &str = r#"---
id: full-disk
title: The <script>alert(1)</script> disk is full
severity: SEV2
services: [storage]
match: { alerts: [repeat-exact] }
inputs:
  who: { pattern: "^[a-z]+$" }
---
# The <script>alert(1)</script> disk is full

Look first. <img src=x onerror=alert(2)>

## Investigation
How full is it?
```sh { name=usage }
printf '<script>alert(3)</script>\nno space left\n'
```
Who is it?
```sh { name=whose }
test "$who" = kim
```

## Resolution
### Cause: Logs fill it { #logs when="usage.exit == 0" }
**Symptoms:**

```
no space left
```
**Resolution:**

Mark & empty the log.
```sh { name=empty mode=write risk=medium approve=any rollback=refill verify="usage.exit == 1 within 60s" limit=9/1h cooldown=0s }
printf '%s' '<b>"emptied"&</b>' | tee @/emptied
```
The way back.
```sh { name=refill mode=write only=rollback }
mv @/emptied @/kept
```
Move the data away.
```sh { name=move mode=write approve=two limit=9/1h cooldown=0s }
printf moved | tee @/moved
```
Remove what is left.
```sh { name=wipe mode=write risk=destructive }
rm -rf @/left
```
"#;

impl Acting {
    pub async fn with(files: &[(&str, &str)]) -> Self {
        Self::with_gateway(files, |_| None).await
    }

    pub async fn with_gateway(files: &[(&str, &str)], open: impl FnOnce(&Stage) -> Option<paramedic_gateway::Gateway>) -> Self {
        let mut stage = Stage::with_fleet().await;
        let folder = tempfile::tempdir().unwrap();
        let books = folder.path().join("books");
        std::fs::create_dir(&books).unwrap();
        for (name, text) in files {
            std::fs::write(books.join(name), text.replace('@', folder.path().to_str().unwrap())).unwrap();
        }
        let journal = Arc::clone(&stage.context.journal);
        let clock = Arc::clone(&stage.context.clock);
        let runs = RunDesk::open(Parts {
            settings: Settings { folders: vec![books], library: false, ..Settings::default() },
            journal: Arc::clone(&journal),
            hands: Hands::default(),
            clock: Arc::clone(&clock),
            metrics: paramedic_runbook::metrics::Metrics::default(),
            observer: None,
            stop_file: stage.dir.path().join("BRAKE"),
        })
        .await
        .unwrap();
        let flags = Arc::new(FlagStore::open(Arc::clone(&journal)).await.unwrap());
        let switches = Arc::new(SwitchStore::open(journal).await.unwrap());
        let adapters: Vec<Arc<dyn paramedic_action::Adapter>> =
            vec![Arc::new(paramedic_action::switch::Switches::new(Arc::clone(&switches), clock))];
        let actions = Actions::new(adapters, paramedic_action::metrics::Metrics::default());
        let gateway = open(&stage);
        let context = Arc::get_mut(&mut stage.context).unwrap();
        context.responding = Some(Responding { runs: Arc::clone(&runs), actions, flags, switches });
        context.gateway = gateway;
        let server = serve(&stage).await;
        Self { stage, server, runs, folder }
    }

    /// The runbook of the disk, started for the incident that is open and not acknowledged.
    pub async fn with_disk() -> Self {
        let acting = Self::with(&[("disk.md", DISK)]).await;
        let started = acting.post("kim", "/runs", "runbook=full-disk&incident=INC-3").await;
        assert_eq!(started.status, 303, "{}", started.body);
        assert!(started.header("location").unwrap().starts_with("/incidents/INC-3?done=started"), "{}", started.headers);
        acting.until("/incidents/3", "Looked at 1 of 2").await;
        acting.until("/incidents/3", "waits for approval").await;
        acting
    }

    pub async fn post(&self, name: &str, path: &str, body: &str) -> Answer {
        let cookie = format!("cookie: paramedic_name={name}");
        self.server.send("POST", path, &["content-type: application/x-www-form-urlencoded", &cookie], body).await
    }

    pub async fn get(&self, name: &str, path: &str) -> String {
        let answer = self.server.send("GET", path, &[&format!("cookie: paramedic_name={name}")], "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// The page, as soon as it says these words.
    pub async fn until(&self, path: &str, words: &str) -> String {
        let began = Instant::now();
        loop {
            let page = self.get("kim", path).await;
            if page.contains(words) {
                return page;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{path} never says {words:?}:\n{page}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// The hash that the page's form for a step carries.
    pub async fn hash(&self, run: &str, step: &str) -> String {
        let view = self.runs.view(run).await.unwrap();
        view.steps.iter().find(|one| one.name == step).unwrap().hash.clone()
    }

    pub async fn gone(&self, name: &str) {
        let began = Instant::now();
        while self.wrote(name).is_some() {
            assert!(began.elapsed() < Duration::from_secs(10), "{name} is still there: {:#?}", self.runs.entries("RUN-1").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn wrote(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }
}
