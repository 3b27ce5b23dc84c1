//! Writes to a journal from several tasks until it is killed, and says on standard output what was acknowledged.
//!
//! `journal-load FILE ROUND SEED TASKS` prints `ack <first seq> <entries> <round>-<task>-<number>` per append, after
//! the acknowledgement. The kill tests compare these lines with what they find in the file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use paramedic_journal::{Draft, Expected, Journal, JournalError, SqliteJournal};
use paramedic_model::{Clock, SystemClock};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, round, seed, tasks] = arguments.as_slice() else {
        eprintln!("usage: journal-load FILE ROUND SEED TASKS");
        return ExitCode::from(2);
    };
    let (Ok(seed), Ok(tasks)) = (seed.parse::<u64>(), tasks.parse::<u64>()) else {
        eprintln!("SEED and TASKS are numbers");
        return ExitCode::from(2);
    };
    let journal = match SqliteJournal::open(Path::new(file)) {
        Ok(journal) => Arc::new(journal),
        Err(error) => return fail(&error),
    };
    let writers: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(write(Arc::clone(&journal), format!("{round}-{task}"), seed.wrapping_add(task.wrapping_mul(7_919)))))
        .collect();
    for writer in writers {
        if let Ok(Err(error)) = writer.await {
            return fail(&error);
        }
    }
    ExitCode::SUCCESS
}

fn fail(error: &JournalError) -> ExitCode {
    eprintln!("failed to {error}");
    ExitCode::FAILURE
}

/// Appends for ever: batches of one to four entries, small and large, with every kind of expectation.
async fn write(journal: Arc<SqliteJournal>, subject: String, seed: u64) -> Result<(), JournalError> {
    let mut chance = seed | 1;
    let mut last_own = 0;
    for number in 0.. {
        // Xorshift: enough to vary sizes.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let (count, size) = (chance % 4 + 1, if chance % 16 == 5 { 20_000 } else { chance % 300 });
        let id = format!("{subject}-{number}");
        let filling = "x".repeat(usize::try_from(size).unwrap_or(0));
        let drafts = (0..count)
            .map(|index| Draft {
                at: SystemClock.now(),
                kind: "load".into(),
                subject: subject.clone(),
                actor: "journal-load".into(),
                payload: json!({ "id": id, "index": index, "count": count, "filling": filling }),
            })
            .collect();
        let expected = if chance & 1 << 40 == 0 { Expected::Any } else { Expected::Subject(last_own) };
        let entries = journal.append(drafts, expected).await?;
        last_own = entries.last().map_or(0, |last| last.seq);
        let first = entries.first().map_or(0, |first| first.seq);
        // One write, so that a kill cuts a line at most at its end.
        let line = format!("ack {first} {count} {id}\n");
        if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
