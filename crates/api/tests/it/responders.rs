//! What answers incidents, on the made-up fleet: real runs of a team's runbook, flags, switches, and actions on them.

use std::sync::Arc;
use std::time::Duration;

use paramedic_action::flag::{FlagStore, Flags};
use paramedic_action::switch::{SwitchStore, Switches};
use paramedic_action::{Actions, Call};
use paramedic_api::{Context, Responding};
use paramedic_gateway::{Gateway, Parts as GatewayParts, Pricing};
use paramedic_model::{SystemClock, Usage};
use paramedic_runbook::desk::Parts;
use paramedic_runbook::execute::{BoxFuture, Hand, Hands, Order};
use paramedic_runbook::outcome::Outcome;
use paramedic_runbook::render::Work;
use paramedic_runbook::{RunDesk, Settings};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Server};
use crate::stage::Stage;

/// A runbook whose fix writes a file, and whose rollback takes it away.
const RUNBOOK: &str = r#"---
id: queue-stuck
title: The queue is stuck
services: [queue]
match: { alerts: [QueueStuck] }
inputs:
  folder: { required: true, pattern: "^/[A-Za-z0-9/._-]+$" }
  password: { type: secret, default: "hunter2-hunter2" }
---
# The queue is stuck

## Symptoms
- [ ] Nothing leaves the queue

## Investigation
```sh { name=look timeout=5s }
ls $folder
```

### Cause: The worker is gone { #worker when="look.exit == 0" }
**Resolution:**

```sh { name=fix mode=write timeout=5s verify="look.stdout ~ 'fixed' within 5s" rollback=unfix limit=10/1h cooldown=0s }
touch $folder/fixed
```
```sh { name=unfix mode=write only=rollback timeout=5s }
mv $folder/fixed $folder/gone
```
"#;

/// Carries out actions, as the server does.
struct ActionHand(Actions);

impl Hand for ActionHand {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Work::Action { name, arguments } = &order.work else { return Outcome::fault("it is no action") };
            let arguments = arguments.as_object().cloned().unwrap_or_default();
            let call = Call { action: name.clone(), arguments, by: order.about.by.clone(), reason: String::new() };
            if order.dry {
                return match self.0.plan(&call).await {
                    Ok(plan) => Outcome { affected: Some(plan.affected), ..Outcome::default() },
                    Err(error) => Outcome::fault(format!("failed to {error}")),
                };
            }
            match self.0.execute(&call, &CancellationToken::new()).await {
                Ok((_, done)) => Outcome {
                    affected: Some(done.affected),
                    inverse: done.inverse.and_then(|call| serde_json::to_value(call).ok()),
                    ..Outcome::default()
                },
                Err(error) => Outcome::fault(format!("failed to {error}")),
            }
        })
    }
}

/// A token costs a millionth of a dollar, whatever the model.
struct Penny;

impl Pricing for Penny {
    fn call(&self, _: &str, usage: &Usage) -> Option<u64> {
        Some(usage.total() * 1_000_000)
    }
}

impl Stage {
    /// The fleet, and everything that answers its incidents.
    pub async fn with_responders() -> Self {
        let mut stage = Self::with_metrics().await;
        stage.respond().await;
        stage
    }

    async fn respond(&mut self) {
        let (journal, clock) = (Arc::clone(&self.context.journal), Arc::new(SystemClock));
        let folder = self.dir.path().join("runbooks");
        std::fs::create_dir(&folder).expect("makes the folder");
        std::fs::write(folder.join("queue.md"), RUNBOOK).expect("writes the runbook");
        let flags = Arc::new(FlagStore::open(Arc::clone(&journal)).await.expect("opens"));
        let switches = Arc::new(SwitchStore::open(Arc::clone(&journal)).await.expect("opens"));
        let adapters: Vec<Arc<dyn paramedic_action::Adapter>> = vec![
            Arc::new(Flags::new(paramedic_action::flag::Settings::default(), Some(Arc::clone(&flags)), self.context.clock.clone())),
            Arc::new(Switches::new(Arc::clone(&switches), self.context.clock.clone())),
        ];
        let actions = Actions::new(adapters, paramedic_action::metrics::Metrics::default());
        let hands = Hands { action: Some(Arc::new(ActionHand(actions.clone()))), ..Hands::default() };
        let parts = Parts {
            settings: Settings { folders: vec![folder], ..Settings::default() },
            journal,
            hands,
            clock,
            metrics: paramedic_runbook::metrics::Metrics::default(),
            observer: None,
            stop_file: self.dir.path().join("BRAKE"),
        };
        let runs = RunDesk::open(parts).await.expect("opens");
        let context: &mut Context = Arc::get_mut(&mut self.context).expect("nobody else has it yet");
        let gateway = GatewayParts {
            settings: paramedic_gateway::Settings::default(),
            clock: context.clock.clone(),
            pricing: Arc::new(Penny),
            data_dir: None,
            salt: [7; 32],
            shared: None,
        };
        context.gateway = Some(Gateway::open(gateway).expect("opens"));
        context.responding = Some(Responding { runs, actions, flags, switches });
    }
}

/// A server with everything.
pub async fn responding() -> (Stage, Server) {
    let stage = Stage::with_responders().await;
    let server = Server::start(paramedic_api::router(Arc::clone(&stage.context))).await;
    (stage, server)
}

impl Server {
    /// A write by somebody.
    pub async fn by(&self, name: &str, path: &str, body: &Value) -> Answer {
        let actor = format!("x-paramedic-actor: {name}");
        self.send("POST", path, &["content-type: application/json", &actor], &body.to_string()).await
    }

    /// As [`Self::by`]; it has to be done.
    pub async fn done(&self, name: &str, path: &str, body: &Value) -> Value {
        let answer = self.by(name, path, body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        answer.json()
    }

    /// Reads a run until it is as it should be.
    pub async fn run_until(&self, run: &str, is: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..400 {
            let view = self.get(&format!("/api/v1/runs/{run}")).await.json();
            if is(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{run} did not come to it: {:#}", self.get(&format!("/api/v1/runs/{run}")).await.json());
    }
}

/// A step of a run by its name.
pub fn step<'a>(view: &'a Value, name: &str) -> &'a Value {
    view["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no {name} in {view:#}"))
}
