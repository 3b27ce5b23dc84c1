//! The verbs and their options.

mod gateway;

mod response;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use gateway::{BREAKER_EXAMPLES, COST_EXAMPLES, FAULT_EXAMPLES, LATENCY_EXAMPLES, RATELIMIT_EXAMPLES, TRAFFIC_EXAMPLES};
pub(crate) use gateway::{BreakerVerb, CostBy, CostVerb, FaultArgs, FaultKind, FaultVerb, HoldArgs, LatencyBy, LatencyVerb, TrafficArgs};
pub(crate) use response::{
    ActionVerb, ApproveArgs, BrakeVerb, BudgetVerb, FlagVerb, Period, RunArgs, RunChange, RunbookVerb, RunsArgs, StepArgs, SwitchHow,
    SwitchVerb,
};

/// Incident response for fleets of AI agents.
#[derive(Debug, Parser)]
#[command(name = "paramedic", version, about, long_about = None, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 no running instance, 4 not found, 5 problems found, 6 refused";

const QUERY_EXAMPLES: &str = "Examples:
  paramedic query up
  paramedic query 'topk(5, sum by (agent) (increase(agent_cost_dollars_total[1h])))'
  paramedic query 'rate(agent_requests_total[5m])' --range 3h --plot
  paramedic query 'process_resident_memory_bytes' --range 1h --step 30s --json";

const RUNBOOK_EXAMPLES: &str = "Examples:
  paramedic runbook lint docs/runbooks/*.md
  paramedic runbook import docs/runbooks/queue.md --diff
  paramedic runbook plan rate-limits --set provider=anthropic
  paramedic runbook run redis-failure --incident 7 --watch
  paramedic runbook test redis-failure --fixture redis-full.yaml";

const ACTION_EXAMPLES: &str = "Examples:
  paramedic action list
  paramedic action show redis.delete_keys
  paramedic action plan redis.delete_keys --set pattern='cache:*'
  paramedic action run flag.disable --set flag=new-search --set ttl=30m --why 'search is slow'";

const SWITCH_EXAMPLES: &str = "Examples:
  paramedic switch known
  paramedic switch set rate_limit_per_minute 100 --for 30m --reason 'many 429'
  paramedic switch set blocked true --scope user=u-42 --for 1h
  paramedic switch set ENABLE_DEGRADED_MODE true --for 30m
  paramedic switch set breaker:anthropic open --for 10m
  paramedic switch clear blocked --scope user=u-42";

const BUDGET_EXAMPLES: &str = "Examples:
  paramedic budget
  paramedic budget set 20 --per day
  paramedic budget set 5 --per day --scope user=u-42 --reason 'a trial'
  paramedic budget set 200 --per month --scope team=search
  paramedic budget clear --per day --scope user=u-42";

const RULES_EXAMPLES: &str = "Examples:
  paramedic rules list --problems
  paramedic rules check rules/*.yml
  paramedic rules test tests/*.yml
  paramedic rules why TargetDown";

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Common {
    /// Data folder [default: $XDG_DATA_HOME/paramedic or ~/.local/share/paramedic]
    #[arg(long, global = true, value_name = "DIR", env = "PARAMEDIC_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// A running instance elsewhere, instead of the one on the data folder
    #[arg(long, global = true, value_name = "URL", env = "PARAMEDIC_SERVER")]
    pub(crate) server: Option<String>,
    /// Settings file (TOML); `paramedic config` shows every key
    #[arg(long, global = true, value_name = "FILE", env = "PARAMEDIC_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Claude Code configuration folder; may be given several times [default: $CLAUDE_CONFIG_DIR or ~/.claude]
    #[arg(long = "claude-dir", global = true, value_name = "DIR")]
    pub(crate) claude_dirs: Vec<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Watch the agents of this machine, receive telemetry, keep incidents and show them in a browser
    Up(UpArgs),
    /// Pass model calls on, observed and held by switches, without the rest of Paramedic
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(GatewayArgs),
    /// List the agents, those in trouble first
    Agents(AgentsArgs),
    /// Show one agent: what it does, its tokens, its last events
    Agent(AgentArgs),
    /// List incidents, the latest first
    Incidents(IncidentsArgs),
    /// Show one incident with its timeline, change it, or open one: `incident 7`, `incident 7 ack`, `incident open TITLE`
    #[command(
        subcommand,
        override_usage = "paramedic incident <ID> [note|ack|severity|title|state|role|release|hand-over|checklist|tick|attach|evidence|resolve|close|reopen|cancel|kind|merge|split|back-date]\n       paramedic incident open <TITLE>"
    )]
    Incident(IncidentVerb),
    /// List alerts: pending, firing and resolved, with value and threshold; and notes
    Alerts(AlertsArgs),
    /// Evaluate a PromQL expression: a table, or drawn with --plot
    #[command(after_help = QUERY_EXAMPLES)]
    Query(QueryArgs),
    /// List alerting and recording rules, check and test rule files, or see why an alert fires
    #[command(subcommand, after_help = RULES_EXAMPLES)]
    Rules(RulesVerb),
    /// List what is scraped and probed, what is down first
    Targets(TargetsArgs),
    /// Search events
    Events(Box<EventsArgs>),
    /// Show what the agents cost, who spends most, and why
    #[command(after_help = COST_EXAMPLES)]
    Cost {
        #[command(subcommand)]
        verb: Option<CostVerb>,
    },
    /// Show the model calls that go through the gateway: those that run, and the latest ones
    #[command(after_help = TRAFFIC_EXAMPLES)]
    Traffic(Box<TrafficArgs>),
    /// How long model calls take, and which part of them is slow
    #[command(subcommand, after_help = LATENCY_EXAMPLES)]
    Latency(LatencyVerb),
    /// Calls a minute, what remains of the provider's limits, when it is back, when it will be used up; and our own limits
    #[command(after_help = RATELIMIT_EXAMPLES)]
    Ratelimit,
    /// Circuit breakers of the gateway: list, hold open or closed, reset
    #[command(subcommand, after_help = BREAKER_EXAMPLES)]
    Breaker(BreakerVerb),
    /// Faults on purpose, for drills: failures of the model API as agents see them
    #[command(subcommand, after_help = FAULT_EXAMPLES)]
    Fault(FaultVerb),
    /// Read recorded sessions and print totals, alerts and incidents; needs no running instance
    Analyze(AnalyzeArgs),
    /// Check this machine: disk, memory, rights, receivers, clock, journal
    Doctor,
    /// Feed a file or standard input (`-`) into the running instance: stream-json, transcripts, hooks, logs
    Ingest(IngestArgs),
    /// Look at the journal
    #[command(subcommand)]
    Journal(JournalVerb),
    /// Show or install the lines that connect an agent
    #[command(subcommand)]
    Connect(ConnectVerb),
    /// Show all settings with their defaults
    Config {
        /// What to print: the commented defaults, the same as a page of documentation, or the API's OpenAPI document
        #[arg(value_enum, default_value_t = ConfigDocument::Default)]
        document: ConfigDocument,
    },
    /// Read, check, plan, rehearse and run runbooks in Markdown
    #[command(subcommand, after_help = RUNBOOK_EXAMPLES)]
    Runbook(RunbookVerb),
    /// List runs of runbooks, the latest first
    Runs(RunsArgs),
    /// Show one run, follow it, or say something about it: `run 7`, `run 7 --watch`, `run 7 skip STEP`
    Run(RunArgs),
    /// List the steps that wait for a person, with exactly what would run
    Approvals,
    /// Approve exactly one step of a run as it stands; without its hash it is shown and asked
    Approve(ApproveArgs),
    /// Typed actions: list, plan (look and count, change nothing), run, take back
    #[command(subcommand, after_help = ACTION_EXAMPLES)]
    Action(ActionVerb),
    /// The kill switch and the fleet's brake; `brake on` works also when nothing runs
    Brake {
        #[command(subcommand)]
        verb: Option<BrakeVerb>,
    },
    /// Switches of the gateway, which hold for a time: limits, blocks, budgets, models, prompts
    #[command(subcommand, after_help = SWITCH_EXAMPLES)]
    Switch(SwitchVerb),
    /// What calls may cost in a day, a week or a month, and what of it is spent
    #[command(after_help = BUDGET_EXAMPLES)]
    Budget {
        #[command(subcommand)]
        verb: Option<BudgetVerb>,
    },
    /// Feature flags
    #[command(subcommand)]
    Flag(FlagVerb),
    /// Run files in the PromQL test language (`load`, `eval` ...) against the built-in evaluator
    PromqlTest {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// The looping agent of `up --sample`
    #[command(hide = true)]
    SampleAgent {
        /// Claude Code folder that it writes into
        dir: PathBuf,
    },
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConfigDocument {
    Default,
    Reference,
    Openapi,
    /// All actions, in Markdown
    Actions,
    /// What lint looks for in runbooks, in Markdown
    RunbookLint,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct UpArgs {
    /// Address of the pages, the API and the hooks
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Address of the OTLP gRPC receiver; empty: off
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_grpc: Option<String>,
    /// Address of the OTLP HTTP receiver; empty: off
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_http: Option<String>,
    /// Address of the gateway for model calls; empty: off
    #[arg(long, value_name = "ADDR")]
    pub(crate) gateway: Option<String>,
    /// Play a small recorded fleet with an outage, in a data folder of its own
    #[arg(long)]
    pub(crate) sample: bool,
    /// How many times faster than recorded the sample is played
    #[arg(long, value_name = "TIMES", default_value_t = 60.0, requires = "sample")]
    pub(crate) sample_speed: f64,
}

const GATEWAY_EXAMPLES: &str = "\
Examples:
  paramedic gateway                                        agents: export ANTHROPIC_BASE_URL=http://127.0.0.1:8484
  paramedic gateway --listen 127.0.0.1:9000 --upstream http://127.0.0.1:8080
  paramedic gateway --data /var/lib/paramedic              keeps switches, budgets and calls; other verbs reach it with the same --data

Without --data nothing is kept: switches are those of the settings, and what is spent is forgotten at the end.
SIGHUP reads the settings again. SIGUSR2 starts a successor that takes the listening socket over; this one ends when its
calls are over. SIGTERM lets calls end, then stops.";

#[derive(Debug, ClapArgs)]
pub(crate) struct GatewayArgs {
    /// Address that agents send their calls to [default: 127.0.0.1:8484, or listen.gateway of the settings]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Where calls are passed on to [default: https://api.anthropic.com, or gateway.upstreams of the settings]
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AgentsArgs {
    /// Only agents in this state: working, waiting, stuck, failed, done, silent
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Only agents whose id, project or model contains this
    pub(crate) text: Option<String>,
    /// Also agents that are done
    #[arg(long)]
    pub(crate) all: bool,
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AgentArgs {
    /// The agent's id, or the beginning of it
    pub(crate) id: String,
    /// How many of its last events to show
    #[arg(long, default_value_t = 15)]
    pub(crate) events: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct IncidentsArgs {
    /// Only open ones
    #[arg(long)]
    pub(crate) open: bool,
    /// Only those of this severity (SEV1 to SEV4, P0 to P3, critical ...)
    #[arg(long)]
    pub(crate) severity: Option<String>,
    /// How fast incidents are noticed, acknowledged, mitigated and resolved, instead of the list
    #[arg(long)]
    pub(crate) statistics: bool,
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IncidentVerb {
    /// Open an incident by hand
    Open {
        title: String,
        /// api_failure, rate_limit, timeout, memory_leak, plugin_crash, data_corruption, performance, authentication
        #[arg(long = "type", default_value = "performance")]
        incident_type: String,
        #[arg(long, default_value = "SEV3")]
        severity: String,
        #[arg(long = "agent")]
        agents: Vec<String>,
        /// When it began, if that was earlier (RFC 3339)
        #[arg(long)]
        started_at: Option<String>,
        /// It is an exercise: marked as such, and not counted
        #[arg(long)]
        drill: bool,
    },
    /// `INC-7` or just 7, and what to do with it
    #[command(external_subcommand)]
    Of(Vec<String>),
}

/// What follows `paramedic incident`, when it is the id of one.
#[derive(Debug, Parser)]
#[command(name = "paramedic incident", no_binary_name = true)]
pub(crate) struct IncidentArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// `INC-7`, or just 7
    pub(crate) id: String,
    #[command(subcommand)]
    pub(crate) change: Option<IncidentChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IncidentChange {
    /// Add a note to the timeline
    Note { text: String },
    /// Say that you are on it
    Ack,
    /// Set the severity by hand
    Severity {
        severity: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Rename it
    Title { title: String },
    /// Move it: investigating, identified, mitigated, closed
    State {
        state: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Say that it is over
    Resolve {
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Say that it is not over
    Reopen {
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Say that it was a false alarm
    Cancel {
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Merge it into another incident
    Merge { into: String },
    /// Give somebody a role: commander=NAME, communications=NAME, scribe=NAME, responder=NAME
    Role {
        #[arg(value_name = "ROLE=NAME", required = true)]
        assignments: Vec<String>,
    },
    /// Take a role away from somebody
    Release { role: String, person: String },
    /// Pass a role on
    HandOver {
        role: String,
        to: String,
        /// What they have to know
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Show the checklist, phase by phase
    Checklist,
    /// Tick an item of the checklist
    Tick {
        item: String,
        /// Take the tick back
        #[arg(long)]
        undo: bool,
    },
    /// Keep a file with it as evidence
    Attach {
        /// A file, or - for standard input
        file: PathBuf,
        /// Its name, if not the file's
        #[arg(long)]
        name: Option<String>,
        /// Where it is from: a query, a command, a link
        #[arg(long, default_value = "")]
        source: String,
    },
    /// Print a piece of evidence
    Evidence {
        /// Its name or number
        name: String,
    },
    /// Say that all work on it is done
    Close {
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Say that it is a drill, or real
    Kind {
        /// real or drill
        kind: String,
        #[arg(long)]
        reason: String,
    },
    /// Split alerts that are another problem off into an incident of their own
    Split {
        /// The new incident's title
        title: String,
        /// All alerts of this agent; may be given several times
        #[arg(long = "agent")]
        agents: Vec<String>,
        /// The fingerprint of an alert; may be given several times
        #[arg(long = "alert")]
        alerts: Vec<String>,
    },
    /// Correct one of its times, on record
    BackDate {
        /// started, detected, mitigated or resolved
        what: String,
        /// RFC 3339, or 15m, 2h ago
        to: String,
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AlertsArgs {
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct QueryArgs {
    /// The expression, in PromQL
    pub(crate) expression: String,
    /// The moment, or the end of the range: RFC 3339, seconds since 1970, or how long ago (15m, 2h) [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// Evaluate over this long up to the moment (15m, 1h, 7d)
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// Between the points of a range [default: what fits the width]
    #[arg(long, value_name = "DURATION")]
    pub(crate) step: Option<String>,
    /// Draw it in the terminal; over an hour where no range is given
    #[arg(long, conflicts_with = "json")]
    pub(crate) plot: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesVerb {
    /// List all rules by group
    List {
        /// Only those that are pending or firing
        #[arg(long)]
        active: bool,
        /// Only those that fail, or look for series that never were
        #[arg(long)]
        problems: bool,
        /// Only those whose name or expression contains this
        text: Option<String>,
    },
    /// Check rule files (Prometheus's, also as PrometheusRule objects); with a running instance, also whether their series exist
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not ask a running instance for series
        #[arg(long)]
        offline: bool,
    },
    /// Run unit tests of rules, in promtool's format
    Test {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show the parts of an alert's expression with their values now
    Why {
        /// The alert's name
        alert: String,
    },
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct TargetsArgs {
    /// Only those that are down
    #[arg(long)]
    pub(crate) down: bool,
    /// Only those whose job or address contains this
    pub(crate) text: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct EventsArgs {
    /// Words to search for; quote a phrase, end a word with * for its beginning
    pub(crate) text: Vec<String>,
    /// From this time on (RFC 3339, or 15m, 2h, 3d ago)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Up to this time
    #[arg(long)]
    pub(crate) until: Option<String>,
    #[arg(long)]
    pub(crate) agent: Option<String>,
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// prompt, model-call, model-retry, model-error, tool-call, tool-result, compaction, span, measurement, record ...
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// transcript, stream-json, hook, otlp-log, otlp-metric, otlp-span, log, process, gateway
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// The name in the source's own vocabulary, such as claude_code.api_request
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// At least this level: debug, info, warn, error
    #[arg(long)]
    pub(crate) level: Option<String>,
    #[arg(long)]
    pub(crate) prompt: Option<String>,
    /// Request id of the model API, or an X-Request-ID
    #[arg(long)]
    pub(crate) request: Option<String>,
    #[arg(long)]
    pub(crate) trace: Option<String>,
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Oldest first
    #[arg(long)]
    pub(crate) oldest_first: bool,
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AnalyzeArgs {
    /// A Claude Code configuration folder, its projects, any folder or one file of transcripts
    pub(crate) path: PathBuf,
    /// Read everything again, even when nothing changed since the last time
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// No progress bar
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct IngestArgs {
    /// A file, or - for standard input
    pub(crate) path: PathBuf,
    /// What it is; by default it is recognised
    #[arg(long, value_enum, default_value_t = IngestFormat::Auto)]
    pub(crate) format: IngestFormat,
    /// The agent of log lines that name none; by default a file's name without its ending
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// The session of log lines that name none
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// The zone of log times that name none: local (that of the instance's machine, the default), UTC or a name like Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IngestFormat {
    Auto,
    StreamJson,
    Transcript,
    Hook,
    Log,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalVerb {
    /// Find any altered or missing entry and name it
    Verify {
        /// A journal file, if not the data folder's
        file: Option<PathBuf>,
    },
    /// Print entries
    Show {
        /// Entries after this position
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectVerb {
    /// Lines for Claude Code; with --write they go into its settings
    ClaudeCode {
        /// Add them to settings.json of the Claude Code folder
        #[arg(long)]
        write: bool,
        /// Take away exactly what --write added
        #[arg(long, conflicts_with = "write")]
        undo: bool,
        /// Also the lines that send its model calls through the gateway, where switches hold them
        #[arg(long, conflicts_with = "undo")]
        gateway: bool,
    },
}
