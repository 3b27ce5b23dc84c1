//! The meter in the intake: what the fleet takes for news becomes samples.

use std::sync::Arc;

use paramedic_fleet::{Fleet, Novelty, Prices, State};
use paramedic_meter::{AgentGauge, Meter, ProcessGauge, Settings};
use paramedic_model::{AlertChange, Event, Fact, Timestamp};
use paramedic_samples::SampleSink;

/// The meter and where its samples go.
pub struct Metering {
    meter: Meter,
    sink: Arc<dyn SampleSink>,
    due_at: Timestamp,
}

impl Metering {
    /// Goes on from a checkpoint's state; starts afresh when there is none that can be read.
    #[must_use]
    pub fn new(saved: &[u8], settings: Settings, sink: Arc<dyn SampleSink>) -> Self {
        let meter = if saved.is_empty() {
            Meter::new(settings)
        } else {
            Meter::load(saved, settings.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "the meter's state cannot be used; its counters begin at zero");
                Meter::new(settings)
            })
        };
        Self { meter, sink, due_at: Timestamp::default() }
    }

    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.meter.set_settings(settings);
    }

    /// Takes one event as the fleet judged it. Events that are `replayed` were stored before this start.
    pub(crate) fn observe(&mut self, event: &Event, novelty: Novelty, prices: &Prices, now: Timestamp, replayed: bool) {
        if !self.meter.settings().enabled {
            return;
        }
        let novelty = match novelty {
            Novelty::New => paramedic_meter::Novelty::New,
            Novelty::Update => paramedic_meter::Novelty::Update,
            // It counts nothing, but it may be the one that says that the turn is over.
            Novelty::Duplicate if matches!(event.fact, Fact::ModelCall { stop_reason: Some(_), .. }) => paramedic_meter::Novelty::Update,
            Novelty::Duplicate => return,
        };
        let cost = cost_of(event, prices);
        if replayed {
            self.meter.replay(event, novelty, cost, now);
        } else {
            self.meter.observe(event, novelty, cost, now);
        }
    }

    /// Takes what detectors concluded; alerts are in the store at once.
    pub(crate) fn alerts(&mut self, changes: &[AlertChange], now: Timestamp) {
        if !self.meter.settings().enabled {
            return;
        }
        let mut changed = false;
        for change in changes {
            changed |= self.meter.alert(change, now);
        }
        if changed && let Err(error) = self.meter.write_alerts(now, self.sink.as_ref()) {
            tracing::warn!(%error, "alerts could not be written as samples; the next interval tries again");
        }
    }

    /// Writes all samples when the interval is over.
    pub(crate) fn tick(&mut self, fleet: &Fleet, now: Timestamp) {
        let settings = self.meter.settings();
        if !settings.enabled || now < self.due_at {
            return;
        }
        self.due_at = now.after(std::time::Duration::from_secs(settings.interval_s.max(1)));
        let views = fleet.views();
        let gauges: Vec<AgentGauge<'_>> = views
            .iter()
            .map(|view| AgentGauge {
                agent: view.id.as_str(),
                is_subagent: view.parent.is_some(),
                project: view.project.as_deref(),
                state: state(view.state),
                context_tokens: view.context_tokens,
                context_limit: view.context_limit,
                last_event_at: view.last_event_at,
                process: view.process.as_ref().map(|process| ProcessGauge {
                    alive: process.alive,
                    rss_bytes: process.rss_bytes,
                    at: process.at,
                }),
            })
            .collect();
        self.meter.agents(&gauges, now);
        if let Err(error) = self.meter.write(now, self.sink.as_ref()) {
            tracing::warn!(%error, "agents' samples could not be written");
        }
    }

    pub(crate) fn save(&self, now: Timestamp) -> Vec<u8> {
        self.meter.save(now).unwrap_or_else(|error| {
            tracing::warn!(%error, "the meter's state could not be saved");
            Vec::new()
        })
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Stuck => "stuck",
        State::Failed => "failed",
        State::Silent => "silent",
        State::Waiting => "waiting",
        State::Working => "working",
        State::Done => "done",
    }
}

/// By our prices, else as its source says.
fn cost_of(event: &Event, prices: &Prices) -> Option<f64> {
    let Fact::ModelCall { model, usage, cost_usd, .. } = &event.fact else { return None };
    model.as_ref().and_then(|model| prices.cost(model, usage)).or(*cost_usd)
}
