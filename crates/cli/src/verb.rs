//! One file per verb (or pair of verbs); each takes the options and returns how it ended.

mod actions;

mod agents;

mod alerts;

mod analyze;

mod brake;

mod breaker;

mod budget;

mod config;

mod connect;

mod cost;

mod doctor;

mod events;

mod fault;

mod incidents;

mod ingest;

mod journal;

mod latency;

mod promql_test;

mod query;

mod ratelimit;

mod rules;

mod runbook;

mod runs;

mod switches;

mod targets;

mod traffic;

mod gateway;
mod up;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Args, Verb};
use crate::exit::Exit;

pub(crate) fn run(args: Args) -> Result<Exit> {
    let common = &args.common;
    match args.verb {
        Verb::Up(up) => up::up(common, &up),
        Verb::Gateway(gateway) => gateway::gateway(common, &gateway),
        Verb::Analyze(analyze) => analyze::analyze(common, &analyze),
        Verb::Doctor => doctor::doctor(common),
        Verb::Journal(verb) => journal::journal(common, &verb),
        Verb::Connect(verb) => connect::connect(common, &verb),
        Verb::Config { document } => config::config(document),
        Verb::Runbook(verb) => wait(runbook::runbook(common, &verb)),
        Verb::Runs(query) => wait(runs::runs(common, &query)),
        Verb::Run(run) => wait(runs::run(common, &run)),
        Verb::Approvals => wait(runs::approvals(common)),
        Verb::Approve(approve) => wait(runs::approve(common, &approve)),
        Verb::Action(verb) => wait(actions::action(common, &verb)),
        Verb::Brake { verb } => wait(brake::brake(common, verb.as_ref())),
        Verb::Switch(verb) => wait(switches::switch(common, &verb)),
        Verb::Budget { verb } => wait(budget::budget(common, verb.as_ref())),
        Verb::Flag(verb) => wait(switches::flag(common, &verb)),
        Verb::PromqlTest { files } => promql_test::promql_test(common, &files),
        Verb::SampleAgent { dir } => {
            paramedic_server::sample::looping::run(&dir, &paramedic_model::SystemClock)
                .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
            Ok(Exit::Done)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "paramedic", &mut script);
            crate::show::line(String::from_utf8_lossy(&script).trim_end())?;
            Ok(Exit::Done)
        }
        Verb::Agents(query) => wait(agents::agents(common, &query)),
        Verb::Agent(query) => wait(agents::agent(common, &query)),
        Verb::Incidents(query) => wait(incidents::incidents(common, &query)),
        Verb::Incident(verb) => wait(incidents::incident(common, verb)),
        Verb::Query(query) => wait(query::query(common, &query)),
        Verb::Rules(verb) => wait(rules::rules(common, verb)),
        Verb::Targets(query) => wait(targets::targets(common, &query)),
        Verb::Alerts(query) => wait(alerts::alerts(common, &query)),
        Verb::Events(query) => wait(events::events(common, &query)),
        Verb::Cost { verb } => wait(cost::cost(common, verb.as_ref())),
        Verb::Traffic(query) => wait(traffic::traffic(common, &query)),
        Verb::Latency(verb) => wait(latency::latency(common, &verb)),
        Verb::Ratelimit => wait(ratelimit::ratelimit(common)),
        Verb::Breaker(verb) => wait(breaker::breaker(common, &verb)),
        Verb::Fault(verb) => wait(fault::fault(common, &verb)),
        Verb::Ingest(ingest) => wait(ingest::ingest(common, &ingest)),
    }
}

/// `NAME=VALUE` pairs; a name stands once.
fn pairs(set: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    let mut all = std::collections::BTreeMap::new();
    for text in set {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) =
            pair.ok_or_else(|| crate::exit::Failure::new(Exit::Failed, format!("--set {text}: it is not NAME=VALUE"), "--set count=3"))?;
        if all.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(crate::exit::Failure::new(Exit::Failed, format!("--set {name} is given twice"), "").into());
        }
    }
    Ok(all)
}

/// Verbs that ask an instance need one thread and no more.
fn wait(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
