//! The verbs that look at the gateway and hold its calls: traffic, latency, limits, breakers, costs, faults.

use clap::{Args as ClapArgs, Subcommand};

pub(super) const TRAFFIC_EXAMPLES: &str = "Examples:
  paramedic traffic
  paramedic traffic --user u-42 --status 429
  paramedic traffic --switch rate_limit_per_user --limit 50
  paramedic traffic --outcome refused --json";

pub(super) const LATENCY_EXAMPLES: &str = "Examples:
  paramedic latency top
  paramedic latency top --by agent";

pub(super) const RATELIMIT_EXAMPLES: &str = "Examples:
  paramedic ratelimit
  paramedic ratelimit --json
What holds calls back is set by switches:
  paramedic switch set provider_pacing true --for 1h
  paramedic switch set rate_limit_per_agent 30 --for 1h";

pub(super) const BREAKER_EXAMPLES: &str = "Examples:
  paramedic breaker list
  paramedic breaker open anthropic --for 10m --reason 'provider is down'
  paramedic breaker close anthropic/claude-opus-5-5
  paramedic breaker reset anthropic
  paramedic breaker reset --all";

pub(super) const COST_EXAMPLES: &str = "Examples:
  paramedic cost                            what the agents cost, by day, model and agent
  paramedic cost top --by user --per week   who spends most through the gateway
  paramedic cost why                        why calls cost what they cost, and what stops it";

pub(super) const FAULT_EXAMPLES: &str = "Examples:
  paramedic fault lease overloaded --share 0.2 --for 5m --reason 'drill of Tuesday'
  paramedic fault lease rate-limited --retry-after 20 --scope user=u-42 --for 5m --reason drill
  paramedic fault lease slow --delay 5s --scope model=claude-haiku-4-5 --for 5m --reason drill
  paramedic fault show
  paramedic fault release";

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct TrafficArgs {
    #[arg(long)]
    pub(crate) user: Option<String>,
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// The whole id, or that of a sub-agent within its session
    #[arg(long)]
    pub(crate) agent: Option<String>,
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// As it was asked for, or as it answered
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The name of the key: a hash, or as the settings call it
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// answered, cut, client-gone, timed-out, unreachable, refused, broken-off, degraded
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// 429, or 4xx
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Only calls that this switch did something to
    #[arg(long)]
    pub(crate) switch: Option<String>,
    /// Calls that are listed
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LatencyVerb {
    /// The slowest first, which part of a call is slow, and whether long prompts are why
    #[command(after_help = LATENCY_EXAMPLES)]
    Top {
        #[arg(long, value_enum, default_value_t = LatencyBy::Model)]
        by: LatencyBy,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LatencyBy {
    Model,
    Agent,
    User,
    Session,
    Key,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BreakerVerb {
    /// List the circuit breakers: open, half-open, closed, and who holds them
    List,
    /// Hold a breaker open: its calls are refused until the time is over
    Open(HoldArgs),
    /// Hold a breaker closed: its calls pass, whatever fails
    Close(HoldArgs),
    /// Close a breaker, forget what it has seen, and clear the switch that holds it
    Reset {
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        name: Option<String>,
        #[arg(long)]
        all: bool,
        /// Why, for the record
        #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct HoldArgs {
    /// An upstream, one of its models or one of its keys: anthropic, anthropic/claude-opus-5-5, anthropic/key:ci
    pub(crate) name: String,
    /// How long: 90s, 30m, 2h; at most 24h
    #[arg(long = "for", alias = "ttl", value_name = "DURATION", default_value = "30m")]
    pub(crate) lasts: String,
    /// Why, for the record
    #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CostVerb {
    /// Who spends most through the gateway
    Top {
        #[arg(long, value_enum, default_value_t = CostBy::User)]
        by: CostBy,
        /// UTC; weeks begin on Monday
        #[arg(long, value_enum, default_value_t = super::Period::Day)]
        per: super::Period,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Why calls cost what they cost: one spender, repeated prompts, expensive models, a step, each with what stops it
    Why {
        /// UTC; weeks begin on Monday
        #[arg(long, value_enum, default_value_t = super::Period::Day)]
        per: super::Period,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CostBy {
    User,
    Team,
    Agent,
    Session,
    Model,
    Key,
    Plugin,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FaultVerb {
    /// Do faults to calls on purpose, for at most an hour; every answer that is touched says so
    #[command(after_help = FAULT_EXAMPLES)]
    Lease(FaultArgs),
    /// Show who does which faults to whom until when
    Show,
    /// End the faults now
    Release {
        /// The lease's name [default: the one that holds]
        id: Option<String>,
        /// Why, for the record
        #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FaultKind {
    /// 429
    RateLimited,
    /// 529
    Overloaded,
    /// 500
    ServerError,
    /// The upstream is asked later
    Slow,
    /// The answer's body is cut
    CutAfter,
    /// An event stream has an event in it that is none
    MalformedEvent,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FaultArgs {
    #[arg(value_enum)]
    pub(crate) kind: FaultKind,
    /// How long: 90s, 30m; at most 1h
    #[arg(long = "for", alias = "ttl", value_name = "DURATION")]
    pub(crate) lasts: String,
    /// Why: people will ask
    #[arg(long, alias = "why", value_name = "TEXT")]
    pub(crate) reason: String,
    /// Whom it is for: all, or key, user, team, agent, session, model or plugin and a name: user=u-42
    #[arg(long, default_value = "all")]
    pub(crate) scope: String,
    /// Of the calls in the scope, 0 to 1
    #[arg(long, default_value_t = 1.0)]
    pub(crate) share: f64,
    /// Names the lease; the same one again renews or changes it
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Of rate-limited: seconds that the answer asks to wait
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry_after: Option<u64>,
    /// Of slow: how much later, 500ms or 5s [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<String>,
    /// Of cut-after: bytes that pass [default: 200]
    #[arg(long, value_name = "BYTES")]
    pub(crate) after_bytes: Option<u64>,
}
