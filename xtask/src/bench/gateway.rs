//! What a call costs on its way through a gateway: ours beside others, on one processor each.
//!
//! The gateway has one processor for itself, the load and the upstream share the other. Every gateway sees the same
//! requests in the same run, and between two rounds of one all others have theirs, so that what else the machine does
//! strikes all of them alike. The processor time of a call is what is least disturbed by it.

mod peers;
mod race;
mod scene;
mod streams;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process;

use super::{folder, release_program};
use peers::{How, Peer};
use scene::{Came, STREAM, Size, Upstream, WHOLE};

/// What is asked in a run: how large a request, whether its answer is a stream, and how many at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Case {
    size: Size,
    stream: bool,
    connections: u32,
}

const fn case(size: Size, stream: bool, connections: u32) -> Case {
    Case { size, stream, connections }
}

const CASES: [Case; 13] = [
    case(Size::Small, false, 1),
    case(Size::Small, false, 16),
    case(Size::Small, false, 64),
    case(Size::Usual, false, 1),
    case(Size::Usual, false, 16),
    case(Size::Usual, false, 64),
    case(Size::Large, false, 1),
    case(Size::Large, false, 16),
    case(Size::Small, true, 1),
    case(Size::Small, true, 16),
    case(Size::Usual, true, 1),
    case(Size::Usual, true, 16),
    case(Size::Usual, true, 64),
];

/// What is measured, and how long.
pub(super) struct Plan {
    pub(super) seconds: u64,
    pub(super) rounds: usize,
    /// Without the slow ones.
    pub(super) own_only: bool,
    /// Only the two cases that have a target.
    pub(super) quick: bool,
}

impl Plan {
    fn cases(&self) -> Vec<Case> {
        let is_meant = |case: &Case| !self.quick || (!case.stream && case.size != Size::Large && case.connections != 64);
        CASES.into_iter().filter(is_meant).collect()
    }
}

/// A run's result.
#[derive(Clone, Copy)]
struct Cost {
    came: Came,
    /// Microseconds of processor time a call.
    cpu_us: f64,
    rss_mb: f64,
}

pub(super) fn run(plan: &Plan) -> Result<String> {
    let program = release_program()?;
    let nginx = peers::debian("nginx").context("failed to find nginx, which is the upstream")?;
    let wrk = peers::debian("wrk").context("failed to find wrk, which is the load")?;
    let root = folder()?.join("gateway");
    fs::remove_dir_all(&root).ok();
    fs::create_dir_all(&root)?;
    let upstream = Upstream::start(&nginx, &root)?;
    let mut missing = Vec::new();
    let peers = start(&program, &nginx, &root, &upstream, plan, &mut missing)?;
    let mut costs: BTreeMap<(usize, usize), Option<Cost>> = BTreeMap::new();
    let cases = plan.cases();
    for (at, case) in cases.iter().enumerate() {
        for round in 0..plan.rounds {
            for (which, peer) in peers.iter().enumerate() {
                let is_slow = which > 3;
                if (is_slow && round > 0) || costs.get(&(at, which)).is_some_and(Option::is_none) {
                    continue;
                }
                let cost = measure(&wrk, &root, peer, *case, plan.seconds)?;
                let best = costs.entry((at, which)).or_insert(cost);
                if let (Some(best), Some(cost)) = (best, cost)
                    && cost.came.per_s > best.came.per_s
                {
                    *best = cost;
                }
            }
        }
        eprintln!("{}", rows(*case, at, &peers, &costs));
    }
    let mut table = table(&cases, &peers, &costs);
    drop(peers);
    for (what, part) in
        [("streams", streams::run(&program, &nginx, &root, upstream.ports)), ("race", race::run(&program, &root, !plan.own_only))]
    {
        match part {
            Ok(part) => table.push_str(&part),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    for one in missing {
        let _ = writeln!(table, "\nNot measured: {one}");
    }
    Ok(table)
}

/// All gateways at once: one that gets no call costs nothing.
fn start(program: &Path, nginx: &Path, root: &Path, upstream: &Upstream, plan: &Plan, missing: &mut Vec<String>) -> Result<Vec<Peer>> {
    let ports = upstream.ports;
    let mut all = vec![
        Peer::direct(ports),
        peers::nginx(nginx, root, ports)?,
        peers::paramedic(program, root, ports, How::Alone)?,
        peers::paramedic(program, root, ports, How::All)?,
    ];
    if !plan.own_only {
        let litellm = peers::litellm_program().and_then(|program| peers::litellm(&program, root, ports, ""));
        for (what, peer) in [("LiteLLM", litellm), ("Portkey", peers::portkey(root, ports))] {
            match peer.and_then(|peer| peers::works(&peer, WHOLE, false).map(|()| peer)) {
                Ok(peer) => all.push(peer),
                Err(error) => missing.push(format!("{what}: {error:#}")),
            }
        }
    }
    Ok(all)
}

/// One run; nothing where a gateway does not pass such calls on.
fn measure(wrk: &Path, root: &Path, peer: &Peer, case: Case, seconds: u64) -> Result<Option<Cost>> {
    let model = if case.stream { STREAM } else { WHOLE };
    if let Err(error) = peers::works(peer, model, case.stream) {
        eprintln!("{error:#}");
        return Ok(None);
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in scene::headers().into_iter().chain(peer.headers.clone()) {
        headers.push((name.to_owned(), value));
    }
    let script = scene::script(root, &scene::body(case.size, model, case.stream), &headers)?;
    let port = peer.ports[usize::from(case.stream)];
    if peer.warm_up_s > 0 {
        scene::load(wrk, &script, port, case.connections, peer.warm_up_s)?;
    }
    let before = peer.pid().map(process::cpu_s).transpose()?.unwrap_or(0.0);
    let came = scene::load(wrk, &script, port, case.connections, seconds)?;
    let after = peer.pid().map(process::cpu_s).transpose()?.unwrap_or(0.0);
    let rss_mb = peer.pid().and_then(|pid| process::memory_mb(pid, "VmRSS")).unwrap_or(f64::NAN);
    Ok(Some(Cost { came, cpu_us: (after - before) * 1e6 / came.calls.max(1) as f64, rss_mb }))
}

type Costs = BTreeMap<(usize, usize), Option<Cost>>;

fn table(cases: &[Case], peers: &[Peer], costs: &Costs) -> String {
    let mut table = String::from(
        "| request | answer | connections | gateway | calls/s | p50 ms | p99 ms | added p50 | added p99 | CPU us a call | resident MB | calls/s, ours all on / its | not answered |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (at, case) in cases.iter().enumerate() {
        table.push_str(&rows(*case, at, peers, costs));
    }
    table
}

fn rows(case: Case, at: usize, peers: &[Peer], costs: &Costs) -> String {
    let of = |which: usize| costs.get(&(at, which)).copied().flatten();
    let (direct, ours) = (of(0), of(3));
    let mut rows = String::new();
    for (which, peer) in peers.iter().enumerate() {
        let answer = if case.stream { "stream" } else { "whole" };
        let _ = write!(rows, "| {} | {answer} | {} | {} |", case.size.name(), case.connections, peer.name);
        let Some(cost) = of(which) else {
            rows.push_str(" fails | | | | | | | | |\n");
            continue;
        };
        let added = |of: fn(&Came) -> f64| direct.map_or(f64::NAN, |direct| of(&cost.came) - of(&direct.came));
        let ratio = ours.map_or(f64::NAN, |ours| ours.came.per_s / cost.came.per_s);
        let _ = writeln!(
            rows,
            " {:.0} | {:.3} | {:.2} | {:.3} | {:.2} | {:.1} | {:.0} | {ratio:.1} | {} |",
            cost.came.per_s,
            cost.came.p50_ms,
            cost.came.p99_ms,
            added(|came| came.p50_ms),
            added(|came| came.p99_ms),
            cost.cpu_us,
            cost.rss_mb,
            cost.came.bad
        );
    }
    rows
}
