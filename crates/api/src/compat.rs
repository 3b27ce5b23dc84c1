//! The two routes of the older analytics server that tools ask for, in its shapes and with its names.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use paramedic_fleet::AgentView;
use paramedic_model::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::http::json_response;

/// `GET /api/status`: `{api, websocket, watcher, attribution, system, timestamp}` and the spend that playbooks look for.
pub(crate) async fn status(State(context): State<Arc<Context>>) -> Response {
    let now = context.now();
    let address = context.about.http.clone().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').map_or((address.as_str(), 0), |(host, port)| (host, port.parse::<u16>().unwrap_or(0)));
    let totals = context.fleet().totals();
    let body = json!({
        "api": { "running": true, "host": host, "port": port },
        "websocket": { "running": true, "clients": context.metrics.live_clients.get(), "host": host, "port": port },
        "watcher": { "conversationCount": totals.agents.saturating_sub(totals.subagents), "totalMessages": totals.turns.saturating_add(totals.calls) },
        // Plugins and skills are not counted here; the numbers say so by being null.
        "attribution": { "pluginCount": null, "skillCount": null, "mcpToolCount": null, "lastUpdated": null },
        "system": { "uptime": now.since(context.about.started_at).as_secs_f64(), "nodeVersion": null, "platform": std::env::consts::OS },
        "totalCost": totals.cost.usd,
        "timestamp": now,
    });
    json_response(StatusCode::OK, body.to_string())
}

/// Sessions in one answer; the newest first.
const SESSIONS_MAX: usize = 1_000;

/// `GET /api/sessions`: `{sessions:[…], total, timestamp}`, each session with `errorCount` and `totalCost`.
pub(crate) async fn sessions(State(context): State<Arc<Context>>) -> Response {
    let mut by_session: BTreeMap<String, Session> = BTreeMap::new();
    for view in context.fleet().views() {
        let id = view.session.clone().unwrap_or_else(|| view.id.as_str().split('/').next().unwrap_or_default().to_owned());
        by_session.entry(id).or_default().add(&view);
    }
    let total = by_session.len();
    let mut sessions: Vec<_> = by_session.into_iter().collect();
    sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.last));
    let sessions: Vec<Value> = sessions.into_iter().take(SESSIONS_MAX).map(|(id, session)| session.into_json(id)).collect();
    json_response(StatusCode::OK, json!({ "sessions": sessions, "total": total, "timestamp": context.now() }).to_string())
}

/// A session's agents added up.
#[derive(Default)]
struct Session {
    title: Option<String>,
    model: Option<String>,
    messages: u64,
    errors: u64,
    cost: Option<f64>,
    started: Timestamp,
    last: Timestamp,
    state: Option<&'static str>,
}

impl Session {
    fn add(&mut self, view: &AgentView) {
        self.messages += u64::from(view.turns) + view.model_calls;
        self.errors += u64::from(view.model_errors) + u64::from(view.tool_errors);
        if let Some(usd) = view.cost.usd {
            *self.cost.get_or_insert(0.0) += usd;
        }
        self.last = self.last.max(view.last_event_at);
        if view.parent.is_none() || self.state.is_none() {
            self.title.clone_from(&view.project);
            self.model.clone_from(&view.model);
            self.started = view.started_at;
            self.state = Some(view.state.as_str());
        }
    }

    fn into_json(self, id: String) -> Value {
        json!({
            "id": id,
            "title": self.title,
            "messageCount": self.messages,
            "plugins": [],
            "skills": [],
            "model": self.model,
            "lastMessage": self.last,
            "startedAt": self.started,
            "state": self.state,
            "errorCount": self.errors,
            "totalCost": self.cost,
        })
    }
}
