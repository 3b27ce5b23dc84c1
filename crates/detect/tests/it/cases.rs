//! Scripts and what must be said about them: every detector fires, notes, stays quiet and ends.

use paramedic_detect::Settings;
use paramedic_model::{ApiErrorClass, Event, Fact, IncidentType, Source};

use crate::script::{Doing, check, check_with, parse, play, time};

mod api {
    use super::*;

    #[test]
    fn one_recovered_retry_is_a_note() {
        check(
            "0 prompt
             5 retry 529 1/10
             9 answer",
            "5 api-overload note from=5 retries=1
             9 api-overload resolved from=5 retries=1 answered=1",
        );
    }

    #[test]
    fn the_third_retry_is_an_incident_and_the_answer_ends_it() {
        check(
            "0 prompt
             5 retry 503 1/10
             6 retry 503 2/10
             8 retry 503 3/10
             9 answer",
            "5 api-overload note from=5 retries=1
             6 api-overload note from=5 retries=2
             8 api-overload SEV3 from=5 retries=3
             9 api-overload resolved from=5 retries=3 answered=1",
        );
    }

    #[test]
    fn a_burst_read_from_its_middle_is_an_incident_at_once() {
        check("5 retry 529 7/10", "5 api-overload SEV3 from=5 retries=1");
    }

    #[test]
    fn each_class_has_its_detector() {
        for (class, detector) in [
            ("529", "api-overload"),
            ("500", "api-server-error"),
            ("504", "api-server-error"),
            ("unknown", "api-server-error"),
            ("network", "network"),
            ("429", "rate-limit"),
        ] {
            check(&format!("5 retry {class} 1/10"), &format!("5 {detector} note from=5 retries=1"));
        }
    }

    #[test]
    fn exhausted_retries_tell_the_failure_once_and_the_retries_once() {
        check(
            "0 prompt
             10 retry 529 1/2
             20 retry 529 2/2
             34 fail unknown
             50 prompt
             55 retry 529 1/2
             60 answer",
            "10 api-overload note from=10 retries=1
             20 api-overload note from=10 retries=2
             34 api-overload SEV2 from=10 retries=2
             34 retries-exhausted SEV2 from=10 failed=1
             55 api-overload SEV2 from=10 retries=3
             60 api-overload resolved from=10 retries=3 answered=1
             60 retries-exhausted resolved from=10 failed=1",
        );
    }

    #[test]
    fn reasons_are_sentences_with_numbers() {
        let script = "0 retry 529 1/2
             100 retry 529 2/2
             204 fail 529 exhausted
             250 answer";
        let changes = play(&parse(script), Settings::default());
        let reasons: Vec<&str> = changes.iter().map(|change| change.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "model API overloaded (529): 1 retry in under 1 s, no answer yet",
                "model API overloaded (529): 2 retries in 1 min 40 s, no answer yet",
                "model API overloaded (529): 2 retries in 3 min 24 s, then the turn failed",
                "model API overloaded (529): all 2 retries failed in 3 min 24 s, then the turn failed",
                "model API overloaded (529): 2 retries in 3 min 24 s; the model answered 4 min 10 s after the first failure",
                "model API overloaded (529): all 2 retries failed in 3 min 24 s, then the turn failed; the model answers again",
            ]
        );
        assert!(changes.iter().all(|change| change.cause == "api_failure"));
    }

    #[test]
    fn a_terminal_error_weighs_by_class() {
        for (class, severity, cause) in [
            ("500", "SEV2", "api_failure"),
            ("network", "SEV2", "network"),
            ("401", "SEV2", "authentication"),
            ("402", "SEV2", "billing"),
            ("404", "SEV3", "request:a"),
            ("400", "SEV4", "request:a"),
            ("413", "SEV4", "request:a"),
            ("max_output_tokens", "SEV4", "request:a"),
        ] {
            let script = format!("1 prompt\n 2 fail {class}\n 9 answer");
            check(&script, &format!("2 api-terminal-error {severity} from=2 failed=1\n 9 api-terminal-error resolved from=2 failed=1"));
            assert_eq!(play(&parse(&script), Settings::default())[0].cause, cause, "{class}");
        }
    }

    #[test]
    fn a_time_out_that_no_provider_told_of_is_a_time_out() {
        for (script, incident_type, cause) in [
            ("1 fail timeout", IncidentType::Timeout, "timeout"),
            ("1 retry timeout 1/10", IncidentType::Timeout, "timeout"),
            ("1 retry timeout 1/1\n 2 fail unknown", IncidentType::Timeout, "timeout"),
            ("1 fail 504", IncidentType::ApiFailure, "api_failure"),
            ("1 fail 408", IncidentType::ApiFailure, "api_failure"),
            ("1 retry 504 1/10", IncidentType::ApiFailure, "api_failure"),
        ] {
            let changes = play(&parse(script), Settings::default());
            assert!(!changes.is_empty(), "{script}");
            assert!(changes.iter().all(|change| (change.incident_type, change.cause.as_str()) == (incident_type, cause)), "{changes:#?}");
        }
    }

    #[test]
    fn a_timed_out_run_is_told_with_its_length_and_task() {
        let reasons = |attributes: &[(&str, &str)], minutes: Option<u64>, source: Source| {
            let mut event = Event::new(time(1.0), source, "log");
            event.agent = Some("code-review".into());
            event.attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            let duration = minutes.map(|minutes| std::time::Duration::from_secs(minutes * 60));
            let class = ApiErrorClass::Timeout;
            event.fact = Fact::ModelError { class, status: None, attempts: None, retries_exhausted: false, duration };
            let doings = [Doing::Event(Box::new(event.clone())), Doing::Event(Box::new(Event { at: time(61.0), ..event }))];
            play(&doings, Settings::default()).into_iter().map(|change| change.reason).collect::<Vec<_>>()
        };
        assert_eq!(
            reasons(&[("Task", "code-review"), ("Conversation", "abc-123")], Some(5), Source::Log),
            [
                "agent execution timed out after 5 min, task code-review, conversation abc-123: the turn failed",
                "agent execution timed out after 5 min, task code-review, conversation abc-123: 2 turns in a row failed in 1 min",
            ]
        );
        assert_eq!(reasons(&[], None, Source::Log)[0], "agent execution timed out: the turn failed");
        assert_eq!(reasons(&[], None, Source::Transcript)[0], "model call timed out: the turn failed");
        let long = "x".repeat(5_000);
        assert!(reasons(&[("Task", &long), ("Conversation", "a\nb")], None, Source::Log)[0].len() < 200);
    }

    #[test]
    fn bad_requests_in_a_row_weigh_more() {
        check(
            "1 fail 400
             2 fail 400
             3 fail 400",
            "1 api-terminal-error SEV4 from=1 failed=1
             2 api-terminal-error SEV4 from=1 failed=2
             3 api-terminal-error SEV3 from=1 failed=3",
        );
    }

    #[test]
    fn a_limit_that_is_near_is_a_note_and_one_that_refuses_an_incident() {
        check(
            "1 limit allowed_warning five_hour
             2 limit allowed_warning five_hour
             3 answer
             4 limit rejected five_hour
             5 limit rejected five_hour
             9 limit allowed five_hour",
            "1 rate-limit note from=1
             4 rate-limit SEV3 from=1
             9 rate-limit resolved from=1",
        );
    }

    #[test]
    fn a_turn_refused_by_a_limit_is_told_by_the_limit_and_as_a_failure() {
        check(
            "1 prompt
             2 fail 429
             9 answer",
            "2 rate-limit SEV3 from=2
             2 api-terminal-error SEV3 from=2 failed=1
             9 rate-limit resolved from=2 answered=1
             9 api-terminal-error resolved from=2 failed=1",
        );
    }

    #[test]
    fn the_report_about_the_refusal_adds_the_limit_but_no_refusal() {
        check(
            "2 fail 429
             2 limit rejected session
             9 answer",
            "2 rate-limit SEV3 from=2
             2 api-terminal-error SEV3 from=2 failed=1
             2 rate-limit SEV3 from=2
             9 rate-limit resolved from=2 answered=1
             9 api-terminal-error resolved from=2 failed=1",
        );
    }

    #[test]
    fn a_limit_says_which_and_until_when() {
        let change = play(&parse("1 limit rejected five_hour"), Settings::default()).remove(0);
        assert_eq!(change.reason, "rate limited by the limit `five_hour`, 90 % used, resets at 1970-01-01T02:46:39.000Z");
        assert!(change.counts.resets_at.is_some());
    }

    #[test]
    fn what_nobody_hears_of_any_more_ends_when_it_was_last_heard_of() {
        let ended = "5 api-terminal-error SEV2 from=5 failed=1
             7 api-terminal-error resolved from=5 failed=1";
        check("5 fail 500\n 7 record\n 8 finish\n 9 finish", ended);
        check("5 fail 500\n 7 record\n 3600 tick\n 3700 tick\n 3800 tick", ended);
        check("5 fail 500\n 7 record\n 9000 prompt\n 9001 answer", ended);
    }

    #[test]
    fn the_clients_own_lines_are_not_answers() {
        let mut doings = parse("1 retry 529 1/10\n 2 answer\n 3 answer");
        if let crate::script::Doing::Event(event) = &mut doings[1]
            && let paramedic_model::Fact::ModelCall { model, .. } = &mut event.fact
        {
            *model = Some("<synthetic>".into());
        }
        let changes = play(&doings, Settings::default());
        assert_eq!(changes[1].at, crate::script::time(3.0));
    }
}

mod loops {
    use super::*;

    #[test]
    fn exact_repeats_note_at_four_fire_at_five_and_end_after_five_others() {
        check(
            "0 prompt
             +4 x5 step Bash ls same
             +4 step Bash a 1
             +4 step Bash b 2
             +4 step Bash c 3
             +4 step Bash d 4
             +4 step Bash e 5",
            "20 repeat-exact note from=4 times=4
             24 repeat-call note from=4 times=5
             25 repeat-exact SEV3 from=4 times=5
             49 repeat-call resolved from=4 times=5
             50 repeat-exact resolved from=4 times=5",
        );
    }

    #[test]
    fn a_repeat_is_told_with_its_call() {
        let reasons: Vec<String> =
            play(&parse("0 x5 step Bash ls same"), Settings::default()).into_iter().map(|change| change.reason).collect();
        assert_eq!(reasons[2], "same call with the same result 5 times in the last 20 calls: Bash `ls`");
    }

    #[test]
    fn the_same_call_with_other_results_is_only_a_repeated_call() {
        check(
            "0 prompt
             +4 x12 step Bash date *
             +1 end",
            "24 repeat-call note from=4 times=5
             49 repeat-call note from=4 times=10
             61 repeat-call resolved from=4 times=12",
        );
    }

    #[test]
    fn twenty_of_thirty_is_critical_whatever_comes_back() {
        let changes = play(&parse("0 prompt\n +4 x30 step Bash date *"), Settings::default());
        let critical: Vec<_> = changes.iter().filter(|change| change.severity.is_some()).collect();
        assert_eq!(critical.len(), 1);
        assert_eq!((critical[0].detector.as_ref(), critical[0].counts.occurrences), ("repeat-call", 20));
    }

    #[test]
    fn polling_is_not_a_repeat() {
        check("0 prompt\n +4 x19 step BashOutput id=1 running", "");
    }

    #[test]
    fn polling_without_end_is_a_repeat() {
        let changes = play(&parse("0 prompt\n +4 x21 step BashOutput id=1 running"), Settings::default());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].counts.occurrences, 20);
    }

    #[test]
    fn parallel_calls_of_one_message_are_one_call() {
        check(
            "0 answer
             1 x6 call Read f
             2 x6 ok same
             3 answer
             4 x6 call Read f
             5 x6 ok same",
            "",
        );
    }

    #[test]
    fn calls_without_arguments_are_never_a_loop() {
        check("0 prompt\n +4 x25 step Bash - same", "");
    }

    #[test]
    fn work_in_between_is_not_a_loop() {
        check(
            "0 prompt\n +4 step Bash test *\n +4 step Edit a *\n +4 step Bash test *\n +4 step Edit b *\n +4 step Bash test *\n +4 step Edit c *",
            "",
        );
    }

    #[test]
    fn ping_pong_notes_at_four_steps_and_fires_at_six() {
        check(
            "0 prompt
             +4 step Read a 1
             +4 step Read b 2
             +4 step Read a 1
             +4 step Read b 2
             +4 step Read a 1
             +4 step Read b 2
             +4 end",
            "20 ping-pong note from=4 times=4
             30 ping-pong SEV3 from=4 times=6
             34 ping-pong resolved from=4 times=6",
        );
    }

    #[test]
    fn a_circle_of_three_closed_three_times() {
        check(
            "0 prompt
             +4 step Read a *
             +4 step Bash t *
             +4 step Edit b *
             +4 step Read a *
             +4 step Bash t *
             +4 step Edit b *
             +4 step Read a *
             +4 step Bash t *
             +4 step Edit b *
             +4 prompt",
            "45 cycle SEV3 from=4 times=3
             49 cycle resolved from=4 times=3",
        );
    }

    #[test]
    fn a_circle_that_polls_is_a_note() {
        check(
            "0 prompt
             +4 step Bash sleep *
             +4 step BashOutput x *
             +4 step Bash sleep *
             +4 step BashOutput x *
             +4 step Bash sleep *
             +4 step BashOutput x *",
            "30 cycle note from=4 times=3",
        );
    }

    #[test]
    fn errors_in_a_row() {
        check(
            "0 prompt
             +4 x5 fails Bash - -
             +4 step Bash - -",
            "20 tool-error-streak note from=5 times=4
             25 tool-error-streak SEV3 from=5 times=5
             30 tool-error-streak resolved from=5 times=5",
        );
    }

    #[test]
    fn refusals_and_siblings_neither_count_nor_reset() {
        check(
            "0 x3 fails Bash - -
             +1 answer
             +1 call Bash -
             +1 rejected -
             +1 call Bash -
             +1 sibling -
             +1 answer
             +1 call Bash -
             +1 err -",
            "9 tool-error-streak note from=1 times=4",
        );
        check("0 answer\n +1 x9 call Bash -\n +1 err -\n +1 x8 sibling -", "");
    }

    #[test]
    fn calls_made_together_fail_together() {
        check("0 answer\n +1 x9 call Bash -\n +1 x9 err -", "");
    }

    #[test]
    fn a_monologue_is_three_answers_alike_without_a_prompt() {
        check(
            "0 prompt
             1 answer says=hm
             2 answer says=hm
             3 answer says=hm
             4 answer says=ah",
            "3 monologue SEV3 from=1 times=3
             4 monologue resolved from=1 times=3",
        );
        check("1 answer says=ok\n 2 prompt\n 3 answer says=ok\n 4 prompt\n 5 answer says=ok", "");
        check("1 x5 answer id=one says=ok", "");
    }
}

mod quiet {
    use super::*;

    #[test]
    fn silence_is_seen_by_the_next_event() {
        check(
            "0 prompt
             400 answer",
            "300 silence note from=0
             400 silence resolved from=0",
        );
        check(
            "0 prompt
             1000 answer",
            "300 silence note from=0
             900 silence SEV4 from=0
             1000 silence resolved from=0",
        );
    }

    #[test]
    fn the_timer_says_the_same() {
        check(
            "0 prompt
             1 tick
             +50 x20 tick
             1010 answer",
            "300 silence note from=0
             900 silence SEV4 from=0
             1010 silence resolved from=0",
        );
    }

    #[test]
    fn who_waits_for_a_tool_or_a_person_is_not_silent() {
        check("0 prompt\n 1 answer\n 2 call Bash x\n 2000 ok r", "");
        check("0 prompt\n 1 wait\n 2000 answer", "");
        check("0 prompt\n 1 answer\n 2000 prompt", "");
        check("0 prompt\n 1 answer\n 2 call Bash x\n 3 rejected r\n 2000 prompt", "");
        check("0 prompt\n 1 end\n 2000 record", "");
    }

    #[test]
    fn signs_of_life_count() {
        check("0 prompt\n +200 x9 record\n +10 answer", "");
    }

    #[test]
    fn a_sleeping_machine_is_not_silence() {
        check("0 prompt\n 1 tick\n 60 tick\n 5000 tick\n 5100 answer", "");
        check("0 prompt\n 1 tick\n 60 tick\n 3000 answer", "");
        check(
            "0 prompt\n 1 tick\n 60 tick\n 3000 tick\n +60 x3 tick\n +60 answer",
            "3180 silence note from=0\n 3240 silence resolved from=0",
        );
    }

    #[test]
    fn the_timer_does_not_take_a_finished_subagent_for_a_silent_one() {
        check("0 @s/sub prompt\n +10 x200 tick", "");
        check("0 @s/sub prompt\n 1000 @s/sub answer", "300 silence note from=0\n 900 silence SEV4 from=0\n 1000 silence resolved from=0");
    }

    #[test]
    fn a_clock_that_steps_back_says_nothing() {
        check("1000 prompt\n 1001 tick\n 500 tick\n 501 tick\n 1002 tick\n 1003 answer", "");
    }

    #[test]
    fn an_agent_read_from_an_old_record_is_not_silent_now() {
        check("0 prompt\n 90000 tick\n 90001 tick\n 90400 tick", "");
    }

    #[test]
    fn a_process_that_dies_in_a_turn() {
        check(
            "0 prompt
             1 alive
             5 died
             9 died
             2000 prompt",
            "5 process-died SEV3 from=5
             2000 process-died resolved from=5",
        );
        check("0 prompt\n 1 alive\n 2 end\n 5 died", "");
        check("0 prompt\n 5 died", "");
    }

    #[test]
    fn a_lost_subagent_is_a_note() {
        check("1 lost\n 2 lost\n 9 answer", "1 lost-subagent note from=1\n 9 lost-subagent resolved from=1 times=2");
    }

    #[test]
    fn a_result_that_never_came_is_told_when_nothing_more_is_heard() {
        let lost = "5 lost-subagent note from=5\n 5 lost-subagent resolved from=5";
        check("1 @w/a started\n 5 @w/a answer\n 6 finish", lost);
        check("1 @w/a started\n 5 @w/a answer\n 6 @w/a result\n 7 finish", "");
        check("1 @w/a answer\n 5 @w/a started\n 100 tick\n 4000 tick\n 9000 tick", lost);
        check("1 @w/a started\n 5 @w/a answer\n 100 tick\n 3000 tick", "");
        check("1 @w/a answer\n 6 finish", "");
    }
}

mod appetite {
    use super::*;

    #[test]
    fn compactions_close_together() {
        check(
            "0 compact auto
             500 compact auto
             1000 compact
             9000 record",
            "500 compaction-thrash note from=0 times=2
             1000 compaction-thrash SEV3 from=0 times=3
             1000 compaction-thrash resolved from=0 times=3",
        );
    }

    #[test]
    fn four_compactions_in_an_hour() {
        check("0 compact\n 800 compact\n 1600 compact\n 2400 compact", "2400 compaction-thrash SEV3 from=0 times=4");
        check("0 compact\n 1300 compact\n 2600 compact\n 3900 compact", "");
        check("0 x9 compact manual", "");
    }

    #[test]
    fn spending_above_the_threshold() {
        check(
            "0 answer usd=15
             600 answer usd=6
             1200 answer usd=20
             1800 answer usd=10
             5200 answer usd=1",
            "600 spend-rate note from=600 times=21
             1800 spend-rate SEV3 from=600 times=51
             5200 spend-rate resolved from=600 times=51",
        );
    }

    #[test]
    fn spending_far_above_its_own_median() {
        let quiet_hours = "0 x7 answer usd=1\n";
        let script = quiet_hours.replace("0 x7", "+3600 x7");
        check(&format!("{script} +3600 answer usd=6"), "28800 spend-rate note from=28800 times=6");
        check(&format!("{script} +3600 answer usd=21"), "28800 spend-rate SEV3 from=28800 times=21");
        check("+3600 x7 answer usd=0.1\n +3600 answer usd=2", "");
    }

    #[test]
    fn a_call_of_unknown_cost_is_not_counted_as_spending() {
        check("1 answer context=60000000", "");
    }

    #[test]
    fn further_news_about_a_message_are_not_spent_twice() {
        check("1 x9 answer id=m usd=15", "");
    }

    #[test]
    fn context_that_leaps_or_multiplies() {
        check(
            "0 prompt
             1 answer context=20000
             2 answer context=40000
             3 answer context=60000
             4 answer context=85000
             5 answer context=90000
             6 end",
            "4 context-growth note from=4
             6 context-growth resolved from=4",
        );
        check(
            "0 answer context=90000
             1 answer context=145000
             2 compact
             3 answer context=10000",
            "1 context-growth note from=1
             2 context-growth resolved from=1",
        );
        check("0 answer context=150000\n 1 compact\n 2 answer context=20000\n 3 answer context=60000", "");
    }
}

#[test]
fn a_disabled_detector_says_nothing() {
    let settings = Settings { disabled: vec!["repeat-exact".into(), "repeat-call".into()], ..Settings::default() };
    check_with(settings, "0 prompt\n +4 x9 step Bash ls same", "");
}

#[test]
fn evidence_keeps_the_first_and_the_last() {
    let changes = play(&parse("0 prompt\n +1 x40 retry 529 1/50"), Settings::default());
    let evidence = &changes.last().unwrap().evidence;
    assert_eq!(evidence.len(), paramedic_model::limit::EVIDENCE_MAX);
    assert_eq!(evidence[0].at, crate::script::time(1.0));
    assert_eq!(evidence.last().unwrap().at, changes.last().unwrap().at);
}
