//! `paramedic journal verify|show`.

use std::path::PathBuf;

use anyhow::Result;
use paramedic_journal::{Journal as _, SqliteJournal};
use serde_json::json;

use crate::args::{Common, JournalVerb};
use crate::exit::Exit;
use crate::{face, show};

pub(super) fn journal(common: &Common, verb: &JournalVerb) -> Result<Exit> {
    match verb {
        JournalVerb::Verify { file } => verify(common, file.clone()),
        JournalVerb::Show { after, limit } => entries(common, *after, *limit),
    }
}

fn file_of(common: &Common, file: Option<PathBuf>) -> Result<PathBuf> {
    let file = match file {
        Some(file) => file,
        None => face::data_dir(common)?.join(paramedic_server::app::JOURNAL_FILE),
    };
    face::must_exist(&file)?;
    Ok(file)
}

fn verify(common: &Common, file: Option<PathBuf>) -> Result<Exit> {
    let file = file_of(common, file)?;
    let bar = indicatif::ProgressBar::new(0);
    let found = paramedic_journal::verify(&file, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })
    .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    bar.finish_and_clear();
    let problems: Vec<_> = found.problems.iter().map(|problem| json!({"seq": problem.seq, "what": problem.what.to_string()})).collect();
    if common.json {
        show::json(&json!({"file": file, "entries": found.entries, "ok": problems.is_empty(), "problems": problems}))?;
    } else if problems.is_empty() {
        show::line(&format!("{} entries, the chain is whole", show::count(found.entries)))?;
    } else {
        show::line(&format!("{} entries, {} problems:", show::count(found.entries), problems.len()))?;
        for problem in &found.problems {
            let place = problem.seq.map_or_else(|| "the file".to_owned(), |seq| format!("entry {seq}"));
            show::line(&format!("  {place}: {}", show::clean(&problem.what)))?;
        }
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::FoundProblems })
}

fn entries(common: &Common, after: u64, limit: usize) -> Result<Exit> {
    let file = file_of(common, None)?;
    super::wait(async {
        let journal = SqliteJournal::open_read_only(&file).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let entries = journal.read(after, limit).await?;
        if common.json {
            show::json(&json!({"entries": entries}))?;
            return Ok(Exit::Done);
        }
        if entries.is_empty() {
            show::line("No entries: nothing has happened yet.")?;
        }
        for entry in &entries {
            let text = paramedic_respond::timeline::describe(entry).map_or_else(String::new, |item| item.text);
            show::line(&format!(
                "{:>6} {} {:<18} {:<18} {:<12} {}",
                entry.seq,
                entry.at,
                entry.kind,
                entry.subject,
                show::clean(&entry.actor),
                show::clean(&text)
            ))?;
        }
        Ok(Exit::Done)
    })
}
