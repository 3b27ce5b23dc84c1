//! The runbooks that come with Paramedic, planned: with all inputs given, nothing stands in the way of any step.

use paramedic_runbook::classify::Effect;
use paramedic_runbook::library::LIBRARY;
use paramedic_runbook::plan::{Approval, Plan, plan};
use paramedic_runbook::predicate::{Facts, Predicate};
use paramedic_runbook::render::{Blocked, Given, Values, Work};
use paramedic_runbook::{Executor, Input, Runbook, SectionKind, parse};

/// Values that people would type, one of which fits any pattern.
const PLAUSIBLE: &[&str] = &[
    "1234",
    "agent-7",
    "0a1b2c3d4e5f",
    "2026-11-22 05:14:00",
    "/var/backups/nightly.dump",
    "registry.example/agent:1.4.2",
    "https://hooks.example/x",
];

fn runbooks() -> impl Iterator<Item = Runbook> {
    LIBRARY.iter().map(|(name, text)| parse(text, name).runbooks.remove(0))
}

fn value_of(name: &str, input: &Input, fits: impl Fn(&str) -> bool) -> String {
    let found = input.default.as_deref().into_iter().chain(PLAUSIBLE.iter().copied()).find(|value| fits(value));
    found.unwrap_or_else(|| panic!("no plausible value for {name}: {:?}", input.pattern)).to_owned()
}

/// Everything that a runbook asks for or finds.
fn all_given(runbook: &Runbook) -> Given {
    let mut given = Given::default();
    for (name, input) in &runbook.inputs {
        let fits = |value: &str| {
            let one = Given { inputs: [(name.clone(), value.to_owned())].into(), ..Given::default() };
            Values::resolve(runbook, &one).faults().is_empty()
        };
        given.inputs.insert(name.clone(), value_of(name, input, fits));
    }
    for step in &runbook.steps {
        for capture in step.attributes.get("capture").into_iter().flat_map(|text| text.split(';')) {
            given.captured.insert(capture.split('=').next().unwrap_or_default().trim().to_owned(), "2Gi".to_owned());
        }
    }
    given
}

fn planned() -> Vec<(Runbook, Plan)> {
    runbooks().map(|runbook| (plan(&runbook, &all_given(&runbook)), runbook)).map(|(plan, runbook)| (runbook, plan)).collect()
}

#[test]
fn with_everything_given_nothing_stands_in_the_way() {
    for (runbook, plan) in planned() {
        assert_eq!(plan.problems, Vec::<String>::new(), "{}", runbook.id);
        assert_eq!(plan.faults, [], "{}", runbook.id);
        assert_eq!(plan.missing, Vec::<String>::new(), "{}", runbook.id);
        for step in &plan.steps {
            assert_eq!(step.blocked, [], "{}: {}", runbook.id, step.name);
            assert!(step.work.is_some() && !step.hash.is_empty(), "{}: {}", runbook.id, step.name);
        }
    }
}

#[test]
fn looks_run_by_themselves_and_the_first_of_each_runbook_needs_no_input() {
    for runbook in runbooks() {
        // What the incident's labels say.
        let known = [("agent", "agent-7"), ("node", "node-1"), ("host", "api.example"), ("alert", "HighErrorRate")];
        let inputs = known.into_iter().filter(|(name, _)| runbook.inputs.contains_key(*name));
        let inputs = inputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let plan = plan(&runbook, &Given { inputs, ..Given::default() });
        let looks: Vec<_> = plan.steps.iter().filter(|step| step.section == SectionKind::Investigation).collect();
        for step in &looks {
            assert_eq!(
                (step.effect, &step.approval, step.by_hand.as_str()),
                (Effect::Read, &Approval::None, ""),
                "{}: {}",
                runbook.id,
                step.name
            );
            let unfit = step.blocked.iter().filter(|why| !matches!(why, Blocked::MissingInput { .. }));
            assert_eq!(unfit.count(), 0, "{}: {} {:?}", runbook.id, step.name, step.blocked);
        }
        let first = looks.first().unwrap_or_else(|| panic!("{} looks at nothing", runbook.id));
        assert_eq!(first.blocked, [], "{}: {}", runbook.id, first.name);
        let ready = looks.iter().filter(|step| step.blocked.is_empty()).count();
        assert!(ready * 3 >= looks.len() * 2, "{}: only {ready} of {} looks can be made at once", runbook.id, looks.len());
    }
}

#[test]
fn nothing_that_changes_something_starts_without_somebody() {
    for (runbook, plan) in planned() {
        for step in plan.steps.iter().filter(|step| step.effect > Effect::Read && step.executor != Executor::Message) {
            let unattended = step.demands.auto.is_some() || step.approval == Approval::None;
            let ends_by_itself = matches!(&step.work, Some(Work::Action { arguments, .. }) if arguments.get("ttl").is_some());
            assert!(!unattended || ends_by_itself || step.by_hand == "a person does it", "{}: {}", runbook.id, step.name);
            if step.effect == Effect::Destroy {
                assert_eq!(step.approval, Approval::Two, "{}: {}", runbook.id, step.name);
            }
        }
    }
}

#[test]
fn a_query_with_values_in_it_can_be_read() {
    for (runbook, plan) in planned() {
        for step in &plan.steps {
            if let Some(Work::Promql { expression }) = &step.work {
                let read = paramedic_promql::parse::parse(expression, false);
                assert!(read.is_ok(), "{}: {} {expression}: {read:?}", runbook.id, step.name);
            }
        }
    }
}

#[test]
fn a_value_that_is_text_of_a_program_is_refused_or_stays_a_value() {
    let hostile = ["$(reboot)", "x; DROP TABLE jobs", "-rf", "a' OR '1'='1", "{{ x }}", "*", "../../etc/passwd", "a\nb", "`id`"];
    for runbook in runbooks() {
        for name in runbook.inputs.keys() {
            for value in hostile {
                let given = Given { inputs: [(name.clone(), value.to_owned())].into(), ..Given::default() };
                let faults = Values::resolve(&runbook, &given).faults();
                assert!(faults.iter().any(|fault| fault.name == *name), "{}: {name} may be {value}", runbook.id);
            }
        }
    }
}

/// Does a text of a cause stand in a line? Case does not matter, `*` is anything.
fn speaks(pattern: &str, line: &str) -> bool {
    let line = line.to_lowercase();
    let mut rest = line.as_str();
    pattern.to_lowercase().split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// What was found in one night, and the causes whose condition holds then. The first one is the right one.
const NIGHTS: &[(&str, &str, &str, &[&str])] = &[
    (
        "rate-limits",
        "refused=40 retry_share=0.1 cache=0.8 top_share=0.2 yesterday=0 highest=0.97",
        "API Error: 429 {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}",
        &["requests"],
    ),
    (
        "rate-limits",
        "refused=400 retry_share=0.7 cache=0.8 top_share=0.2 yesterday=0 highest=1",
        "Retrying in 8 seconds… (attempt 5 of 10)",
        &["retries"],
    ),
    (
        "agent-timeout",
        "timeouts=4 model_p95=6 tool_p95=240 limited=0 stuck=0 stale=0",
        "TimeoutError: page.goto: exceeded timeout of 120000ms",
        &["tool"],
    ),
    (
        "agent-timeout",
        "timeouts=4 model_p95=6 tool_p95=3 limited=0 stuck=1 stale=0",
        "Error: Agent execution timed out after 300000ms",
        &["task"],
    ),
    (
        "plugin-crash-loop",
        "restarts=47 flapping=0 database=1 redis=1 changes.suspect=false dependency.stdout='connect to 127.0.0.1 port 5432 failed: Connection refused' unit_state.stdout=Result=exit-code",
        "Error: connect ECONNREFUSED 127.0.0.1:5432",
        &["dependency", "harm"],
    ),
    (
        "daemon-crash",
        "database=1 redis=1 disk=0.4 oom_kills=0 health.status=0 pid_check.stdout='stale pid file' unit.stdout=ActiveState=active",
        "memory-daemon: already running (stale pid file 4711)",
        &["stale"],
    ),
    (
        "daemon-crash",
        "database=0 redis=1 disk=0.4 oom_kills=0 health.status=503 pid_check.stdout='no pid file' unit.stdout=ActiveState=active",
        "psycopg2.OperationalError: connection to server at \"127.0.0.1\", port 5432 failed",
        &["database"],
    ),
    (
        "slow-query",
        "p95=4000 idle_in_transaction.rows=1 lock_waits=6 disk_waits=0 temp_files=0 redis_slow_new=0",
        "ERROR: canceling statement due to lock timeout",
        &["idle"],
    ),
    (
        "slow-query",
        "p95=9000 idle_in_transaction.rows=0 lock_waits=0 disk_waits=0 temp_files=0 redis_slow_new=0",
        "LOG:  duration: 9123.4 ms  statement: SELECT * FROM archive",
        &["index"],
    ),
    (
        "connection-pool",
        "available=0 share=0.99 idle_in_transaction.rows=14 active.rows=0 changes.suspect=false descriptors=0.1 sockets.stdout=x",
        "TimeoutError: QueuePool limit of size 10 overflow 5 reached, connection timed out",
        &["leak"],
    ),
    (
        "connection-pool",
        "available=0 share=0.99 idle_in_transaction.rows=0 active.rows=1 changes.suspect=false descriptors=0.1 sockets.stdout=x",
        "FATAL:  sorry, too many clients already",
        &["too-large"],
    ),
    (
        "redis-failure",
        "redis_up=1 memory_share=0.99 evicted=0 save_ok=1 unit.stdout=ActiveState=active",
        "OOM command not allowed when used memory > 'maxmemory'.",
        &["memory"],
    ),
    (
        "redis-failure",
        "redis_up=1 memory_share=0.4 evicted=0 save_ok=0 unit.stdout=ActiveState=active",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        &["save"],
    ),
    (
        "redis-failure",
        "redis_up=0 memory_share=0 evicted=0 unit.stdout=ActiveState=failed",
        "Error: connect ECONNREFUSED 10.0.0.7:6379",
        &["down"],
    ),
    (
        "memory-pressure",
        "used=0.96 fastest=900000000 agents=4 container_share=0.2",
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        &["leak"],
    ),
    ("memory-pressure", "used=0.96 fastest=1000 agents=60 container_share=0.2", "Error: spawn ENOMEM", &["many", "forgotten"]),
    (
        "oom-killed",
        "container_kills=2 host_kills=2 machine_used=0.4 growth=90000000",
        "Last State: Terminated, Reason: OOMKilled, exit code 137",
        &["limit", "leak", "not-back"],
    ),
    (
        "high-error-rate",
        "ratio=0.3 errs.top=rate_limit changes.suspect=false provider.indicator=none redis_up=1 open_circuits=0",
        "anthropic.RateLimitError: Error code: 429 - rate_limit_error",
        &["rate-limit"],
    ),
    (
        "high-error-rate",
        "ratio=0.3 errs.top=TypeError changes.suspect=true changes.minutes_before=6 provider.indicator=none redis_up=1 open_circuits=0",
        "TypeError: Cannot read properties of undefined (reading 'id')",
        &["deployment"],
    ),
    (
        "high-error-rate",
        "ratio=0.3 changes.suspect=false rollout.released_minutes_ago=6 provider.indicator=none redis_up=1 open_circuits=0",
        "TypeError: Cannot read properties of undefined (reading 'id')",
        &["deployment"],
    ),
    (
        "high-error-rate",
        "ratio=0.3 errs.top=network changes.suspect=false provider.indicator=none redis_up=1 open_circuits=1",
        "the circuit breaker anthropic is open: the upstream failed again and again, or an operator opened it",
        &["dependency"],
    ),
    (
        "alert-response",
        "how_many=1 flaps=0 ratio=0 changes.suspect=false rule_failures=0 broken_files=0 late=0 refused=0 undelivered=0 injections=0 left_out=0 gateway_failed=3",
        "API Error: 500 Paramedic's gateway failed in this call",
        &["gateway"],
    ),
    (
        "rate-limits",
        "refused=0 retry_share=0.1 cache=0.8 top_share=0.2 yesterday=0 highest=0.2 held_back=120",
        "429 the limit rate_limit_per_minute@all is reached, and there is no room within 50 s",
        &["own"],
    ),
    (
        "cost-spike",
        "hourly=40 hourly_before=10 top_share=0.2 user_share=0.9 stuck=0 tokens_per_call=3000 cache=0.9 budget=0.4 cap_used=0.4 changes.suspect=false",
        "Too many requests from u-42",
        &["user", "model"],
    ),
    (
        "cost-spike",
        "hourly=15 hourly_before=10 top_share=0.2 user_share=0.1 stuck=0 tokens_per_call=60000 cache=0.1 budget=0.4 cap_used=0.4 changes.suspect=false",
        "prompt is too long: 250000 tokens > 200000 maximum",
        &["prompts"],
    ),
    (
        "cost-spike",
        "hourly=40 hourly_before=10 top_share=0.2 user_share=0.1 stuck=0 tokens_per_call=2000 cache=0.9 budget=0.4 cap_used=0.4 changes.suspect=false",
        "model routing disabled",
        &["model"],
    ),
    (
        "cost-spike",
        "hourly=15 hourly_before=10 top_share=0.2 user_share=0.1 stuck=0 tokens_per_call=2000 cache=0.9 budget=0.4 cap_used=0.4 changes.suspect=true changes.minutes_before=30",
        "feature enabled: research",
        &["feature"],
    ),
    (
        "cost-spike",
        "hourly=12 hourly_before=10 top_share=0.2 user_share=0.1 stuck=0 tokens_per_call=2000 cache=0.9 budget=0.4 cap_used=0.97 changes.suspect=false",
        "429 spend limit reached: $19.99 of $20.00 a day for all are spent",
        &["budget"],
    ),
    (
        "high-latency",
        "p95=40 model_p95=35 active=3 context=0.2 throttled=0 redis_slow_new=0 changes.suspect=false",
        "APITimeoutError: Request timed out.",
        &["model"],
    ),
    (
        "high-latency",
        "p95=20 model_p95=12 active=3 context=0.9 throttled=0 redis_slow_new=0 changes.suspect=false",
        "prompt is too long: 250000 tokens > 200000 maximum",
        &["context"],
    ),
    (
        "queue-depth-growing",
        "workers_up=4 completed=2 error_ratio=0.2 limited=0 in_gateway=60 stream_length=0 lag=0 active=10",
        "429 the limit max_concurrent_requests@all is reached, and others came first",
        &["limit"],
    ),
    (
        "disk-full",
        "free=0.01 inodes=0.6 seconds_left=900 folders.stdout='38G /var/log' journal.stdout=x deleted.stdout=x slots.rows=0",
        "OSError: [Errno 28] No space left on device",
        &["logs"],
    ),
    ("stuck-agent", "waits=0 recent=14 api_errors=0 kind.stdout=list", "Error: String to replace not found in file.", &["loop"]),
    ("stuck-agent", "waits=2 recent=0 api_errors=0 kind.stdout=none", "Claude needs your permission to use Bash", &["person"]),
    (
        "network-failure",
        "resolves.stdout='not resolved' opens.stdout=x tls.stdout=x changes.suspect=false errs.top=network mcp_servers=2",
        "Error: getaddrinfo ENOTFOUND monitoring-server",
        &["dns", "reset"],
    ),
    (
        "node-failure",
        "not_ready=1 cpu=0.2 stolen=0 read_only=0 kernel.stdout=x",
        "NodeNotReady: Kubelet stopped posting node status.",
        &["lost"],
    ),
    (
        "agent-down",
        "ended.stdout='agent-0  Error 1 ImagePullBackOff' unit.stdout=x changes.suspect=false",
        "Back-off pulling image: ImagePullBackOff",
        &["image"],
    ),
];

fn facts(text: &str) -> Facts {
    let mut facts = Facts::default();
    let mut words =
        text.split('\'').enumerate().flat_map(|(at, part)| if at % 2 == 0 { part.split(' ').collect::<Vec<_>>() } else { vec![part] });
    while let Some(word) = words.next() {
        let Some((name, value)) = word.split_once('=') else { continue };
        let value = if value.is_empty() { words.next().unwrap_or_default() } else { value };
        match (value.parse::<f64>(), value) {
            (Ok(number), _) => facts.set(name, number),
            (_, "true" | "false") => facts.set(name, value == "true"),
            _ => facts.set(name, value),
        }
    }
    facts
}

#[test]
fn what_was_found_leads_to_the_right_cause() {
    let mut wrong = Vec::new();
    for (name, found, line, expect) in NIGHTS {
        let runbook = runbooks().find(|runbook| runbook.id == *name).unwrap();
        let facts = facts(found);
        let holds = |when: &Option<String>| when.as_deref().is_some_and(|when| Predicate::parse(when).unwrap().judge(&facts).holds());
        let mut held: Vec<_> = runbook.causes.iter().filter(|cause| holds(&cause.when)).collect();
        held.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let held: Vec<&str> = held.iter().map(|cause| cause.id.as_str()).collect();
        if held != *expect {
            wrong.push(format!("{name}: {found}\n  holds {held:?} instead of {expect:?}"));
        }
        let right = runbook.causes.iter().find(|cause| cause.id == expect[0]).unwrap();
        if !right.patterns.iter().any(|pattern| speaks(pattern, line)) {
            wrong.push(format!("{name}: nothing of {} stands in `{line}`", expect[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
