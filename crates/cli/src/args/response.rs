//! The verbs that answer incidents: runbooks, runs, approvals, actions, brakes, switches, budgets, flags.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RunbookVerb {
    /// List all runbooks: ours, and the team's own
    List {
        /// Only those whose id, title or alerts contain this
        text: Option<String>,
    },
    /// Show runbooks: causes, steps, and what each command line would do
    Show {
        #[arg(required = true, value_name = "ID|FILE")]
        which: Vec<String>,
    },
    /// Name each danger and mistake, with the safer form; exit status 5 when there is an error
    Lint {
        #[arg(required_unless_present = "alerts", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Also name each alert of these rule files that no runbook answers to; without a file: of the rules that the settings name
        #[arg(long, value_name = "RULES", num_args = 0..)]
        alerts: Option<Vec<PathBuf>>,
        /// Do not ask a running instance which alerts and metrics there are
        #[arg(long)]
        offline: bool,
    },
    /// Make our file of a plain one: inputs, names and modes of steps, bounded commands; the prose stays
    Import {
        file: PathBuf,
        /// Write it here instead of to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Show the difference instead
        #[arg(long)]
        diff: bool,
    },
    /// Say exactly what each step would run with these inputs; nothing runs
    Plan {
        #[arg(value_name = "ID|FILE")]
        which: String,
        /// An input; may be given several times
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Start a run on the running instance: what looks runs at once, what changes something waits
    Run {
        id: String,
        /// An input; may be given several times
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// The incident that it is for
        #[arg(long)]
        incident: Option<String>,
        #[arg(long, value_enum, default_value_t = RunModeName::Step)]
        mode: RunModeName,
        /// What is acted on [default: the incident, or the runbook's service]
        #[arg(long)]
        target: Option<String>,
        /// Follow it until it waits for a person or ends
        #[arg(long)]
        watch: bool,
        /// Approve each step that waits, as it stands when it is its turn; follows the run
        #[arg(long)]
        yes: bool,
    },
    /// Rehearse it: outcomes come from a fixture, nothing real runs; exit status 5 when it goes otherwise than expected
    Test {
        #[arg(value_name = "ID|FILE")]
        which: String,
        /// YAML: what each step answers, and what is expected
        #[arg(long, value_name = "FILE")]
        fixture: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunModeName {
    /// What changes something waits for a person, each time
    Step,
    /// What a policy allows runs; the rest waits
    Auto,
    /// What looks runs; what changes is tried dry
    Dry,
}

impl RunModeName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Auto => "auto",
            Self::Dry => "dry",
        }
    }
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RunsArgs {
    /// Only those that have not ended
    #[arg(long)]
    pub(crate) open: bool,
    /// Only those for this incident
    #[arg(long)]
    pub(crate) incident: Option<String>,
    /// Only those of this runbook
    #[arg(long)]
    pub(crate) runbook: Option<String>,
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RunArgs {
    /// `RUN-7`, or just 7
    pub(crate) run: String,
    /// Follow it until it waits for a person or ends
    #[arg(long, global = true)]
    pub(crate) watch: bool,
    #[command(subcommand)]
    pub(crate) change: Option<RunChange>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RunChange {
    /// Show it with all its steps
    Show,
    /// Print its record: who, what exactly, exit, duration, hash of the output
    Record,
    /// Call it off: the step under way is ended, and nothing more is done
    Cancel {
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Give inputs that are missing, or other ones
    Inputs {
        #[arg(long = "set", value_name = "NAME=VALUE", required = true)]
        set: Vec<String>,
    },
    /// Run a step that nobody has to approve, or say that you have done it by hand
    Choose(StepArgs),
    /// Run a step once more
    Again(StepArgs),
    /// Leave a step out
    Skip(StepArgs),
    /// Take back what a step changed
    Undo(StepArgs),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct StepArgs {
    pub(crate) step: String,
    #[arg(long, default_value = "")]
    pub(crate) why: String,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ApproveArgs {
    /// `RUN-7`, or just 7
    pub(crate) run: String,
    pub(crate) step: String,
    /// The hash of the step as you saw it
    pub(crate) hash: Option<String>,
    /// Follow the run until it waits for a person or ends
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ActionVerb {
    /// List all actions
    List {
        /// Only those whose name or summary contains this
        text: Option<String>,
    },
    /// Show one action with its arguments
    Show { name: String },
    /// Look, and say what it would do: how many, exactly what, what takes it back
    Plan {
        name: String,
        /// An argument; may be given several times
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Plan it and start it as a run, which waits for somebody to approve it; what only looks answers at once
    Run {
        name: String,
        /// An argument; may be given several times
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// The incident that it is for
        #[arg(long)]
        incident: Option<String>,
        #[arg(long, default_value = "")]
        why: String,
        /// Approve it as it was planned, and follow it
        #[arg(long)]
        yes: bool,
    },
    /// Take back what a step of a run changed; the step of an action is called act
    Undo {
        /// `RUN-7`, or just 7
        run: String,
        #[arg(default_value = "act")]
        step: String,
        #[arg(long, default_value = "")]
        why: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BrakeVerb {
    /// Show the brakes
    Status,
    /// Set the kill switch: nothing changes any more
    On {
        /// Looking stops, too
        #[arg(long)]
        everything: bool,
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Lift the kill switch, and take the stop file away
    Off {
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Release the fleet's brake: unattended changes may happen again
    Release {
        #[arg(long, default_value = "")]
        why: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SwitchVerb {
    /// List what holds now, and who enforces it
    List,
    /// List all switches: what each takes, what it does, and the flag names that stand for it
    Known,
    /// Set a switch; one of the same name and scope is replaced
    #[command(after_help = super::SWITCH_EXAMPLES)]
    Set {
        /// Its name, as `switch known` lists it, or a flag name like RATE_LIMIT_PER_USER
        name: String,
        /// true, false, a number, a name or one of its words, as the switch wants it
        value: String,
        #[command(flatten)]
        how: SwitchHow,
    },
    /// End a switch before its time
    Clear {
        /// `fast_fail` for the one for all, or with whom it is for: `fast_fail@user:u-42`
        #[arg(value_name = "NAME")]
        id: String,
        /// Whom it is for: user=u-42, model=…
        #[arg(long)]
        scope: Option<String>,
        /// Why, for the record
        #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

/// Whom a switch is for, how long, and why.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct SwitchHow {
    /// Whom it is for: all, or key, user, team, agent, session, model or plugin and a name: user=u-42
    #[arg(long, default_value = "all")]
    pub(crate) scope: String,
    /// How long it holds: 90s, 30m, 2h; at most 24h. Needed, but for budgets, which hold until they are cleared
    #[arg(long = "for", alias = "ttl", value_name = "DURATION")]
    pub(crate) lasts: Option<String>,
    /// Why, for the record
    #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BudgetVerb {
    /// List what of each budget is spent, held and left; the same as `paramedic budget`
    List,
    /// Cap what calls may cost in a day, a week or a month; it holds until it is cleared
    #[command(after_help = super::BUDGET_EXAMPLES)]
    Set {
        /// In dollars: 20, 12.50
        amount: String,
        /// UTC; weeks begin on Monday
        #[arg(long, value_enum)]
        per: Period,
        #[command(flatten)]
        how: SwitchHow,
    },
    /// Take a cap away
    Clear {
        #[arg(long, value_enum)]
        per: Period,
        /// Whose cap: all, or key, user, team, agent, session, model or plugin and a name: team=search
        #[arg(long, default_value = "all")]
        scope: String,
        /// Why, for the record
        #[arg(long, alias = "why", value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Period {
    Day,
    Week,
    Month,
}

impl Period {
    /// The switch that caps it.
    pub(crate) const fn switch(self) -> &'static str {
        match self {
            Self::Day => "daily_budget_dollars",
            Self::Week => "weekly_budget_dollars",
            Self::Month => "monthly_budget_dollars",
        }
    }
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FlagVerb {
    /// List all flags
    List,
    /// Show one flag with its latest changes
    Show { name: String },
    /// Set a flag: `flag set NAME on`, `flag set NAME off`
    Set {
        name: String,
        #[arg(value_parser = ["on", "off", "true", "false"])]
        value: String,
        /// After this time it is set back: 90s, 30m, 2h
        #[arg(long)]
        ttl: Option<String>,
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Switch a feature on
    Enable {
        name: String,
        /// After this time it is set back: 90s, 30m, 2h
        #[arg(long)]
        ttl: Option<String>,
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Switch a feature off
    Disable {
        name: String,
        /// After this time it is set back: 90s, 30m, 2h
        #[arg(long)]
        ttl: Option<String>,
        #[arg(long, default_value = "")]
        why: String,
    },
}
