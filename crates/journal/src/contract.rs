//! What every journal store must do, as tests. A store is added with one line:
//!
//! ```ignore
//! paramedic_journal::contract_suite!(sqlite, sqlite_opener);
//! ```
//!
//! `sqlite_opener` is a function that makes an empty journal's [`Opener`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{BoxFuture, Draft, Entry, Expected, Fold, Hash, Journal, JournalError, Tail, limit, rebuild, save_fold};

/// Opens one journal, which was empty at first; every call opens the same one. The caller has dropped what the
/// call before gave.
pub type Opener = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Journal>> + Send + Sync>;

/// One module of tests per store.
#[macro_export]
macro_rules! contract_suite {
    ($name:ident, $factory:path) => {
        mod $name {
            $crate::contract_suite!(@tests $factory;
                an_empty_journal_is_empty,
                entries_are_numbered_linked_and_read_back,
                an_append_is_whole_or_not_at_all,
                head_expectation,
                subject_expectation,
                many_writers_lose_double_and_reorder_nothing,
                racing_for_one_position_has_one_winner,
                a_refused_append_does_not_spoil_its_neighbours,
                pages_are_bounded_and_complete,
                subjects_are_read_alone,
                a_tail_misses_and_doubles_nothing,
                a_lagging_tail_reads_again,
                everything_is_there_after_opening_again,
                snapshots_are_kept_by_version,
                a_snapshot_cannot_be_ahead,
                a_fold_is_rebuilt_from_snapshot_and_tail,
                an_unreadable_snapshot_is_ignored,
                leases_have_one_holder,
                leases_end_and_are_renewed,
                a_clock_that_steps_back_does_not_lengthen_a_lease,
                limits_are_refused_by_name,
            );
        }
    };
    (@tests $factory:path; $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                use super::*;
                $crate::contract::$test($factory()).await;
            }
        )*
    };
}

fn draft(subject: &str, number: u64) -> Draft {
    Draft {
        at: Timestamp::from_secs(1_700_000_000 + i64::try_from(number).expect("small")),
        kind: "note".into(),
        subject: subject.into(),
        actor: "contract".into(),
        payload: json!({ "number": number, "text": "grüße \u{0} \"quoted\"", "share": 0.1 + 0.2, "none": null }),
    }
}

fn drafts(subject: &str, numbers: std::ops::Range<u64>) -> Vec<Draft> {
    numbers.map(|number| draft(subject, number)).collect()
}

fn number(entry: &Entry) -> u64 {
    entry.payload["number"].as_u64().expect("a number")
}

fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

async fn read_all(journal: &dyn Journal) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let page = journal.read(all.last().map_or(0, |last: &Entry| last.seq), 97).await.expect("read");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn assert_chained(entries: &[Entry]) {
    let mut before = (0, Hash::ZERO);
    for entry in entries {
        assert_eq!((entry.seq, entry.prev_hash), (before.0 + 1, before.1));
        before = (entry.seq, entry.hash);
    }
}

pub async fn an_empty_journal_is_empty(open: Opener) {
    let journal = open().await;
    assert_eq!(journal.head().await.expect("head"), 0);
    assert!(journal.read(0, 10).await.expect("read").is_empty());
    assert!(journal.read(u64::MAX, usize::MAX).await.expect("read").is_empty());
    assert!(journal.read_subject("nobody", 0, 10).await.expect("read").is_empty());
    assert!(journal.load_snapshot("nothing", 1).await.expect("load").is_none());
    assert!(!journal.release_lease("nothing", "nobody").await.expect("release"));
    assert!(journal.append(Vec::new(), Expected::Any).await.expect("append").is_empty());
    assert_eq!(rebuild::<Sum>(&*journal).await.expect("rebuild"), (Sum::default(), 0));
}

pub async fn entries_are_numbered_linked_and_read_back(open: Opener) {
    let journal = open().await;
    let mut written = Vec::new();
    for step in 0..5 {
        written.extend(journal.append(drafts("a", step * 3..step * 3 + 3), Expected::Any).await.expect("append"));
    }
    assert_eq!(seqs(&written), (1..=15).collect::<Vec<_>>());
    assert_chained(&written);
    assert_eq!(written.iter().map(number).collect::<Vec<_>>(), (0..15).collect::<Vec<_>>());
    assert_eq!(read_all(&*journal).await, written, "what was acknowledged is what is read");
    assert_eq!(journal.head().await.expect("head"), 15);
    let unlike: BTreeSet<_> = written.iter().map(|entry| entry.hash).collect();
    assert_eq!(unlike.len(), 15);
}

pub async fn an_append_is_whole_or_not_at_all(open: Opener) {
    let journal = open().await;
    let mut batch = drafts("a", 0..5);
    batch[4].kind = String::new();
    let refused = journal.append(batch, Expected::Any).await;
    assert!(matches!(refused, Err(JournalError::Invalid { .. })), "{refused:?}");
    let refused = journal.append(drafts("a", 0..5), Expected::Head(7)).await;
    assert!(matches!(refused, Err(JournalError::Conflict { .. })), "{refused:?}");
    assert_eq!(journal.head().await.expect("head"), 0);

    let writers = (0..8u64).map(|writer| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            for step in 0..10 {
                journal.append(drafts(&format!("{writer}"), step * 4..step * 4 + 4), Expected::Any).await.expect("append");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("writer");
    }
    for batch in read_all(&*journal).await.chunks(4) {
        assert!(batch.iter().all(|entry| entry.subject == batch[0].subject), "another writer's entry is inside a batch");
        assert_eq!(batch.iter().map(number).collect::<Vec<_>>(), (number(&batch[0])..number(&batch[0]) + 4).collect::<Vec<_>>());
    }
}

async fn check_expectation(journal: &dyn Journal, subject: &str, expected: Expected, found: Option<u64>) {
    let before = journal.head().await.expect("head");
    match (journal.append(vec![draft(subject, 1)], expected).await, found) {
        (Ok(entries), None) => assert_eq!(seqs(&entries), [before + 1]),
        (Err(JournalError::Conflict { expected: told, found }), Some(wanted)) => {
            assert_eq!((told, found), (expected, wanted));
            assert_eq!(journal.head().await.expect("head"), before, "a refused append writes nothing");
        }
        (result, _) => panic!("{subject} {expected:?}: {result:?}"),
    }
}

pub async fn head_expectation(open: Opener) {
    let journal = open().await;
    check_expectation(&*journal, "a", Expected::Head(1), Some(0)).await;
    check_expectation(&*journal, "a", Expected::Head(0), None).await;
    check_expectation(&*journal, "b", Expected::Head(0), Some(1)).await;
    check_expectation(&*journal, "b", Expected::Head(1), None).await;
    check_expectation(&*journal, "b", Expected::Head(u64::MAX), Some(2)).await;
    check_expectation(&*journal, "b", Expected::Any, None).await;
}

pub async fn subject_expectation(open: Opener) {
    let journal = open().await;
    check_expectation(&*journal, "a", Expected::Subject(1), Some(0)).await;
    check_expectation(&*journal, "a", Expected::Subject(0), None).await;
    check_expectation(&*journal, "b", Expected::Subject(0), None).await;
    check_expectation(&*journal, "a", Expected::Subject(0), Some(1)).await;
    check_expectation(&*journal, "a", Expected::Subject(2), Some(1)).await;
    check_expectation(&*journal, "a", Expected::Subject(1), None).await;
    check_expectation(&*journal, "b", Expected::Subject(2), None).await;
    let mixed = journal.append(vec![draft("a", 1), draft("b", 2)], Expected::Subject(3)).await;
    assert!(matches!(mixed, Err(JournalError::Invalid { .. })), "{mixed:?}");
}

pub async fn many_writers_lose_double_and_reorder_nothing(open: Opener) {
    const WRITERS: u64 = 32;
    const STEPS: u64 = 25;
    let journal = open().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for step in 0..STEPS {
                    acknowledged.extend(journal.append(vec![draft(&format!("w{writer}"), step)], Expected::Any).await.expect("append"));
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        let own = writer.await.expect("writer");
        assert!(own.is_sorted_by(|a, b| a.seq < b.seq), "a later append has a later number");
        for entry in own {
            assert!(acknowledged.insert(entry.seq, entry).is_none(), "one number was acknowledged twice");
        }
    }
    let stored = read_all(&*journal).await;
    assert_chained(&stored);
    assert_eq!(stored, acknowledged.into_values().collect::<Vec<_>>());
    assert_eq!(stored.len() as u64, WRITERS * STEPS);
}

pub async fn racing_for_one_position_has_one_winner(open: Opener) {
    let journal = open().await;
    for round in 0..10 {
        let racers: Vec<_> = (0..16u64)
            .map(|racer| {
                let journal = Arc::clone(&journal);
                let expected = if racer % 2 == 0 { Expected::Head(round) } else { Expected::Subject(round) };
                tokio::spawn(async move { journal.append(vec![draft("prize", racer)], expected).await })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            match racer.await.expect("racer") {
                Ok(_) => winners += 1,
                Err(JournalError::Conflict { found, .. }) => assert_eq!(found, round + 1),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
}

pub async fn a_refused_append_does_not_spoil_its_neighbours(open: Opener) {
    let journal = open().await;
    let tasks: Vec<_> = (0..200u64)
        .map(|number| {
            let journal = Arc::clone(&journal);
            // Every third asks for a position that is long gone or has never been.
            let expected = if number % 3 == 0 { Expected::Head(1_000_000 + number) } else { Expected::Any };
            tokio::spawn(async move { (number, journal.append(vec![draft("a", number)], expected).await) })
        })
        .collect();
    let mut accepted = BTreeSet::new();
    for task in tasks {
        let (number, result) = task.await.expect("task");
        assert_eq!(result.is_ok(), number % 3 != 0, "{number}: {result:?}");
        if result.is_ok() {
            accepted.insert(number);
        }
    }
    let stored = read_all(&*journal).await;
    assert_chained(&stored);
    assert_eq!(stored.len(), accepted.len());
    assert_eq!(stored.iter().map(number).collect::<BTreeSet<_>>(), accepted);
}

pub async fn pages_are_bounded_and_complete(open: Opener) {
    let journal = open().await;
    journal.append(drafts("a", 0..250), Expected::Any).await.expect("append");
    for (after, limit, first, count) in [(0, 10, 1, 10), (10, 100, 11, 100), (240, 100, 241, 10), (249, 1, 250, 1)] {
        let page = journal.read(after, limit).await.expect("read");
        assert_eq!(seqs(&page), (first..first + count).collect::<Vec<_>>());
    }
    assert!(journal.read(250, 10).await.expect("read").is_empty());
    assert!(journal.read(0, 0).await.expect("read").is_empty());
    assert_eq!(read_all(&*journal).await.len(), 250);

    // Pages of large entries end early, but there is always a next one.
    let large = Draft { payload: json!({ "number": 0, "text": "x".repeat(limit::PAYLOAD_BYTES_MAX - 100) }), ..draft("large", 0) };
    let wanted = limit::READ_BYTES_MAX / limit::PAYLOAD_BYTES_MAX + 4;
    for _ in 0..wanted {
        journal.append(vec![large.clone()], Expected::Any).await.expect("append");
    }
    let page = journal.read(250, limit::READ_ENTRIES_MAX).await.expect("read");
    assert!(!page.is_empty() && page.len() < wanted, "{} large entries in one page", page.len());
    assert_eq!(read_all(&*journal).await.len(), 250 + wanted);
}

pub async fn subjects_are_read_alone(open: Opener) {
    let journal = open().await;
    for step in 0..30u64 {
        journal
            .append(vec![draft(["a", "b", "a%", "A"][usize::try_from(step % 4).expect("small")], step)], Expected::Any)
            .await
            .expect("append");
    }
    let found = journal.read_subject("a", 0, 100).await.expect("read");
    assert_eq!(found.iter().map(number).collect::<Vec<_>>(), [0, 4, 8, 12, 16, 20, 24, 28]);
    let found = journal.read_subject("a", found[1].seq, 2).await.expect("read");
    assert_eq!(found.iter().map(number).collect::<Vec<_>>(), [8, 12]);
    assert!(journal.read_subject("c", 0, 100).await.expect("read").is_empty());
}

async fn follow(journal: Arc<dyn Journal>, after: u64, until: u64, pause: Duration) -> Vec<u64> {
    let mut tail = Tail::new(journal, after);
    let mut seen = Vec::new();
    while tail.position() < until {
        let entry = tail.next().await.expect("next").expect("the journal is open");
        seen.push(entry.seq);
        if !pause.is_zero() && seen.len().is_multiple_of(50) {
            tokio::time::sleep(pause).await;
        }
    }
    seen
}

pub async fn a_tail_misses_and_doubles_nothing(open: Opener) {
    const ENTRIES: u64 = 400;
    let journal = open().await;
    journal.append(drafts("before", 0..20), Expected::Any).await.expect("append");
    let followers: Vec<_> =
        [0, 5, 20].map(|after| (after, tokio::spawn(follow(Arc::clone(&journal), after, ENTRIES, Duration::ZERO)))).into();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                for number in 0..(ENTRIES - 20) / 4 {
                    journal.append(vec![draft("after", number)], Expected::Any).await.expect("append");
                }
            })
        })
        .collect();
    let late = tokio::spawn(follow(Arc::clone(&journal), 100, ENTRIES, Duration::ZERO));
    for writer in writers {
        writer.await.expect("writer");
    }
    for (after, follower) in followers {
        assert_eq!(follower.await.expect("follower"), (after + 1..=ENTRIES).collect::<Vec<_>>());
    }
    assert_eq!(late.await.expect("follower"), (101..=ENTRIES).collect::<Vec<_>>());
}

pub async fn a_lagging_tail_reads_again(open: Opener) {
    let journal = open().await;
    let appends = limit::BROADCAST_LEN_MAX as u64 * 3;
    let mut tail = Tail::new(Arc::clone(&journal), 0);
    let mut plain = journal.subscribe();
    for number in 0..appends {
        journal.append(vec![draft("a", number)], Expected::Any).await.expect("append");
    }
    let lagged = plain.recv().await;
    assert!(matches!(lagged, Err(tokio::sync::broadcast::error::RecvError::Lagged(_))), "this test needs a subscriber that lags");
    for seq in 1..=appends {
        assert_eq!(tail.next().await.expect("next").map(|entry| entry.seq), Some(seq));
    }
    let slow = follow(Arc::clone(&journal), 0, appends * 2, Duration::from_millis(20));
    let writing = async {
        for number in 0..appends {
            journal.append(vec![draft("b", number)], Expected::Any).await.expect("append");
        }
    };
    let (seen, ()) = tokio::join!(slow, writing);
    assert_eq!(seen, (1..=appends * 2).collect::<Vec<_>>());
}

pub async fn everything_is_there_after_opening_again(open: Opener) {
    let journal = open().await;
    let written = journal.append(drafts("a", 0..10), Expected::Any).await.expect("append");
    journal.save_snapshot("state", 3, 10, b"bytes".to_vec()).await.expect("save");
    assert!(journal.acquire_lease("timers", "one", Timestamp::from_secs(100), Duration::from_secs(10)).await.expect("acquire"));
    drop(journal);

    let journal = open().await;
    assert_eq!(read_all(&*journal).await, written);
    assert_eq!(journal.load_snapshot("state", 3).await.expect("load"), Some((10, b"bytes".to_vec())));
    assert!(!journal.acquire_lease("timers", "two", Timestamp::from_secs(105), Duration::from_secs(10)).await.expect("acquire"));
    let next = journal.append(drafts("a", 10..11), Expected::Head(10)).await.expect("append");
    assert_eq!((next[0].seq, next[0].prev_hash), (11, written[9].hash));
}

pub async fn snapshots_are_kept_by_version(open: Opener) {
    let journal = open().await;
    journal.append(drafts("a", 0..9), Expected::Any).await.expect("append");
    journal.save_snapshot("s", 1, 3, vec![1]).await.expect("save");
    assert_eq!(journal.load_snapshot("s", 2).await.expect("load"), None, "a version that was never saved");
    journal.save_snapshot("s", 2, 5, vec![2]).await.expect("save");
    journal.save_snapshot("s", 2, 7, Vec::new()).await.expect("save");
    journal.save_snapshot("other", 1, 0, vec![9]).await.expect("save");
    assert_eq!(journal.load_snapshot("s", 1).await.expect("load"), Some((3, vec![1])), "the previous program still finds its own");
    assert_eq!(journal.load_snapshot("s", 2).await.expect("load"), Some((7, Vec::new())));
    assert_eq!(journal.load_snapshot("other", 1).await.expect("load"), Some((0, vec![9])));
    journal.save_snapshot("s", 3, 9, vec![3]).await.expect("save");
    assert_eq!(journal.load_snapshot("s", 1).await.expect("load"), None, "only {} versions are kept", limit::SNAPSHOT_VERSIONS_MAX);
    assert_eq!(journal.load_snapshot("s", 2).await.expect("load"), Some((7, Vec::new())));
}

pub async fn a_snapshot_cannot_be_ahead(open: Opener) {
    let journal = open().await;
    journal.append(drafts("a", 0..2), Expected::Any).await.expect("append");
    let ahead = journal.save_snapshot("s", 1, 3, vec![1]).await;
    assert!(matches!(ahead, Err(JournalError::SnapshotAhead { seq: 3, head: 2, .. })), "{ahead:?}");
    assert_eq!(journal.load_snapshot("s", 1).await.expect("load"), None);
}

/// How many entries, and the sum of their numbers; remembers how many it applied itself.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    count: u64,
    sum: u64,
    #[serde(skip)]
    applied: u64,
}

impl Fold for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 4;

    fn apply(&mut self, entry: &Entry) {
        self.count += 1;
        self.sum += number(entry);
        self.applied += 1;
    }
}

pub async fn a_fold_is_rebuilt_from_snapshot_and_tail(open: Opener) {
    let journal = open().await;
    journal.append(drafts("a", 0..10), Expected::Any).await.expect("append");
    let (state, position) = rebuild::<Sum>(&*journal).await.expect("rebuild");
    assert_eq!((position, &state), (10, &Sum { count: 10, sum: 45, applied: 10 }));
    save_fold(&*journal, &state, position).await.expect("save");
    journal.append(drafts("a", 10..13), Expected::Any).await.expect("append");
    let (state, position) = rebuild::<Sum>(&*journal).await.expect("rebuild");
    assert_eq!((position, state), (13, Sum { count: 13, sum: 78, applied: 3 }));
}

pub async fn an_unreadable_snapshot_is_ignored(open: Opener) {
    let journal = open().await;
    journal.append(drafts("a", 0..10), Expected::Any).await.expect("append");
    let whole = Sum { count: 10, sum: 45, applied: 10 };
    journal.save_snapshot(Sum::NAME, Sum::VERSION + 1, 10, b"{\"count\":1,\"sum\":1}".to_vec()).await.expect("save");
    assert_eq!(rebuild::<Sum>(&*journal).await.expect("rebuild"), (whole, 10), "another version");
    let whole = Sum { count: 10, sum: 45, applied: 10 };
    journal.save_snapshot(Sum::NAME, Sum::VERSION, 10, b"{\"count\":".to_vec()).await.expect("save");
    assert_eq!(rebuild::<Sum>(&*journal).await.expect("rebuild"), (whole, 10), "not the state's JSON");
}

async fn acquire(journal: &dyn Journal, holder: &str, now_s: i64) -> bool {
    journal.acquire_lease("timers", holder, Timestamp::from_secs(now_s), Duration::from_secs(10)).await.expect("acquire")
}

pub async fn leases_have_one_holder(open: Opener) {
    let journal = open().await;
    let racers: Vec<_> = (0..16)
        .map(|racer| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { acquire(&*journal, &format!("node-{racer}"), 100).await })
        })
        .collect();
    let mut holders = 0;
    for racer in racers {
        holders += u32::from(racer.await.expect("racer"));
    }
    assert_eq!(holders, 1);
    let other = journal.acquire_lease("another lease", "b", Timestamp::from_secs(100), Duration::from_secs(1)).await;
    assert!(other.expect("acquire"));
}

pub async fn leases_end_and_are_renewed(open: Opener) {
    let journal = open().await;
    assert!(acquire(&*journal, "a", 100).await);
    assert!(!acquire(&*journal, "b", 109).await);
    assert!(acquire(&*journal, "a", 109).await, "renewed until 119");
    assert!(!acquire(&*journal, "b", 118).await);
    assert!(acquire(&*journal, "b", 119).await, "it ended");
    assert!(!acquire(&*journal, "a", 120).await, "the former holder cannot renew it");
    assert!(!journal.release_lease("timers", "a").await.expect("release"), "nor give it back");
    assert!(!acquire(&*journal, "a", 121).await);
    assert!(journal.release_lease("timers", "b").await.expect("release"));
    assert!(acquire(&*journal, "a", 121).await);
}

pub async fn a_clock_that_steps_back_does_not_lengthen_a_lease(open: Opener) {
    let journal = open().await;
    assert!(acquire(&*journal, "a", 1_000).await);
    // The clock steps back by 500 s and `a` is never seen again: `b` waits one ttl, not 510 s.
    assert!(!acquire(&*journal, "b", 500).await, "it cannot be known how much of the lease is left");
    assert!(!acquire(&*journal, "b", 509).await);
    assert!(acquire(&*journal, "b", 510).await);
    // A holder that is alive keeps it over a step.
    assert!(acquire(&*journal, "b", 200).await, "renewed until 210");
    assert!(!acquire(&*journal, "a", 209).await);
    assert!(acquire(&*journal, "a", 210).await);
}

async fn check_refused(journal: &dyn Journal, drafts: Vec<Draft>, part: &str) {
    let error = journal.append(drafts, Expected::Any).await.expect_err(part);
    assert!(error.to_string().contains(part), "{error} should say {part:?}");
}

pub async fn limits_are_refused_by_name(open: Opener) {
    let journal = open().await;
    let plain = draft("a", 1);
    let with_payload = |payload| vec![Draft { payload, ..plain.clone() }];
    check_refused(&*journal, with_payload("x".repeat(limit::PAYLOAD_BYTES_MAX).into()), "payload has 1048578 bytes, at most 1048576").await;
    check_refused(&*journal, vec![plain.clone(); limit::APPEND_ENTRIES_MAX + 1], "append has 1001 entries, at most 1000").await;
    let half = with_payload("x".repeat(limit::PAYLOAD_BYTES_MAX - 2).into());
    check_refused(&*journal, vec![half[0].clone(); 5], "append has 5242880 payload bytes, at most 4194304").await;
    check_refused(&*journal, vec![Draft { kind: "k".repeat(limit::KIND_BYTES_MAX + 1), ..plain.clone() }], "kind has 129 bytes").await;
    check_refused(&*journal, vec![Draft { kind: String::new(), ..plain.clone() }], "kind is empty").await;
    check_refused(&*journal, vec![Draft { subject: "s".repeat(limit::SUBJECT_BYTES_MAX + 1), ..plain.clone() }], "subject has 1025").await;
    check_refused(&*journal, vec![Draft { actor: "a".repeat(limit::ACTOR_BYTES_MAX + 1), ..plain.clone() }], "actor has 513").await;
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    check_refused(&*journal, with_payload(deep), "cannot be read back").await;
    let long = "n".repeat(limit::NAME_BYTES_MAX + 1);
    assert!(journal.save_snapshot(&long, 1, 0, Vec::new()).await.is_err());
    assert!(journal.save_snapshot("s", 1, 0, vec![0; limit::SNAPSHOT_BYTES_MAX + 1]).await.is_err());
    assert!(journal.acquire_lease(&long, "a", Timestamp::EPOCH, Duration::ZERO).await.is_err());
    assert!(journal.acquire_lease("l", &long, Timestamp::EPOCH, Duration::ZERO).await.is_err());
    assert_eq!(journal.head().await.expect("head"), 0);

    let at_the_limits = Draft {
        kind: "k".repeat(limit::KIND_BYTES_MAX),
        subject: "s".repeat(limit::SUBJECT_BYTES_MAX),
        actor: "a".repeat(limit::ACTOR_BYTES_MAX),
        payload: "x".repeat(limit::PAYLOAD_BYTES_MAX - 2).into(),
        at: Timestamp::from_micros(i64::MIN),
    };
    journal.append(vec![at_the_limits; 4], Expected::Any).await.expect("exactly at the limits");
    let small = Draft { payload: json!(null), subject: String::new(), actor: String::new(), at: Timestamp::from_micros(i64::MAX), ..plain };
    journal.append(vec![small; limit::APPEND_ENTRIES_MAX], Expected::Any).await.expect("exactly at the limits");
    let stored = read_all(&*journal).await;
    assert_chained(&stored);
    assert_eq!(stored.len(), 4 + limit::APPEND_ENTRIES_MAX);
}
