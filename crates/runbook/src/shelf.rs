//! All runbooks that this instance knows: those that come with it, and a team's own, which stand in for ours of the same id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::Effect;
use crate::document::Runbook;
use crate::lint::{Finding, Weight};
use crate::plan::sha256;
use crate::{lint, parse};

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files of one folder that are read; further ones are named as problems.
pub const FILES_MAX: usize = 2_000;

/// Where a runbook comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It comes with Paramedic.
    Library,
    /// It lies in a folder of the team.
    Folder,
}

/// A runbook with the document that it stands in.
#[derive(Debug, Clone)]
pub struct Shelved {
    pub runbook: Arc<Runbook>,
    pub origin: Origin,
    pub file: String,
    pub text: Arc<str>,
    /// SHA-256 of the text.
    pub document: String,
    /// What is dangerous or wrong in the document, found when somebody asks first: a start need not wait for it.
    pub findings: Findings,
}

/// The linter's findings of one document, shared by its runbooks.
pub type Findings = Arc<LazyLock<Vec<Finding>, Box<dyn FnOnce() -> Vec<Finding> + Send>>>;

/// A runbook as a line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunbookLine {
    pub id: String,
    pub title: String,
    pub severity: Option<String>,
    pub origin: Origin,
    pub file: String,
    /// Alerts it answers to.
    pub alerts: Vec<String>,
    pub services: Vec<String>,
    pub causes: usize,
    pub steps: usize,
    /// Steps that change something.
    pub writes: usize,
    /// Findings of the linter that are errors, and the others.
    pub errors: usize,
    pub warnings: usize,
    pub document: String,
}

/// A file that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Untaken {
    pub file: String,
    pub why: String,
}

/// What a runbook is looked for by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Names of alerts and detectors, the most important first.
    pub alerts: Vec<&'a str>,
    /// Ids that the alerts themselves name.
    pub named: Vec<&'a str>,
    pub services: Vec<&'a str>,
}

#[derive(Debug, Clone, Default)]
pub struct Shelf {
    shelved: BTreeMap<String, Shelved>,
    pub untaken: Vec<Untaken>,
}

impl Shelf {
    /// The library and what lies in the folders; a later folder stands in for an earlier one.
    #[must_use]
    pub fn load(folders: &[PathBuf], library: bool) -> Self {
        let mut shelf = Self::default();
        if library {
            for (name, text) in crate::library::LIBRARY {
                shelf.add(text, &format!("{name}.md"), Origin::Library);
            }
        }
        for folder in folders {
            shelf.add_folder(folder);
        }
        shelf
    }

    /// Adds every runbook of a document.
    pub fn add(&mut self, text: &str, file: &str, origin: Origin) {
        let document = parse(text, file);
        if document.runbooks.is_empty() {
            self.untaken.push(Untaken { file: file.to_owned(), why: "there is no runbook in it".to_owned() });
            return;
        }
        let (text, hash): (Arc<str>, _) = (text.into(), sha256(text.as_bytes()));
        let findings = findings_of(Arc::clone(&text), file.to_owned());
        for runbook in document.runbooks {
            let twin = self.shelved.get(&runbook.id).filter(|known| known.origin == origin);
            if let Some(twin) = twin {
                let why = format!("its runbook {} stands in for that of {}", runbook.id, twin.file);
                self.untaken.push(Untaken { file: file.to_owned(), why });
            }
            let shelved = Shelved {
                origin,
                file: file.to_owned(),
                text: Arc::clone(&text),
                document: hash.clone(),
                findings: Arc::clone(&findings),
                runbook: Arc::new(runbook),
            };
            self.shelved.insert(shelved.runbook.id.clone(), shelved);
        }
    }

    fn add_folder(&mut self, folder: &Path) {
        let mut files = Vec::new();
        if let Err(error) = markdown_files(folder, 0, &mut files) {
            self.untaken.push(Untaken { file: folder.display().to_string(), why: error });
        }
        files.sort();
        if files.len() > FILES_MAX {
            let why = format!("it holds {} files; {FILES_MAX} are read", files.len());
            self.untaken.push(Untaken { file: folder.display().to_string(), why });
        }
        for file in files.iter().take(FILES_MAX) {
            let name = file.display().to_string();
            match read(file) {
                Ok(text) => self.add(&text, &name, Origin::Folder),
                Err(why) => self.untaken.push(Untaken { file: name, why }),
            }
        }
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Shelved> {
        self.shelved.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Shelved> {
        self.shelved.values()
    }

    #[must_use]
    pub fn lines(&self) -> Vec<RunbookLine> {
        self.all().map(Shelved::line).collect()
    }

    /// The runbook for an incident: one that an alert names, else one that names an alert; a team's own before ours, and one
    /// that is for fewer alerts before one for many.
    #[must_use]
    pub fn choose(&self, wanted: &Wanted<'_>) -> Option<&Shelved> {
        if let Some(named) = wanted.named.iter().find_map(|id| self.get(id)) {
            return Some(named);
        }
        wanted.alerts.iter().find_map(|alert| {
            let answers = self.all().filter(|one| one.runbook.alerts.iter().any(|known| is_same_alert(known, alert)));
            answers.max_by_key(|one| {
                let served = one.runbook.services.iter().any(|service| wanted.services.contains(&service.as_str()));
                (
                    one.origin == Origin::Folder,
                    served,
                    std::cmp::Reverse(one.runbook.alerts.len()),
                    std::cmp::Reverse(one.runbook.id.clone()),
                )
            })
        })
    }
}

/// Whether two names mean one alert. Detectors are told as `repeat-exact`, kinds of incidents as `api_failure`: people need not
/// remember which of them has which line.
#[must_use]
pub fn is_same_alert(one: &str, other: &str) -> bool {
    one == other || one.replace('_', "-") == other.replace('_', "-")
}

impl Shelved {
    #[must_use]
    pub fn line(&self) -> RunbookLine {
        let errors = self.findings.iter().filter(|finding| finding.weight == Weight::Error).count();
        let writes = |step: &&crate::Step| step.commands.iter().any(|command| command.verdict.effect > Effect::Read);
        RunbookLine {
            id: self.runbook.id.clone(),
            title: self.runbook.title.clone(),
            severity: self.runbook.severity.clone(),
            origin: self.origin,
            file: self.file.clone(),
            alerts: self.runbook.alerts.clone(),
            services: self.runbook.services.clone(),
            causes: self.runbook.causes.len(),
            steps: self.runbook.steps.len(),
            writes: self.runbook.steps.iter().filter(writes).count(),
            errors,
            warnings: self.findings.len() - errors,
            document: self.document.clone(),
        }
    }
}

/// The text is read once more then, so that no document is held for it.
fn findings_of(text: Arc<str>, file: String) -> Findings {
    Arc::new(LazyLock::new(Box::new(move || lint(&parse(&text, &file)))))
}

/// Reads a runbook's file; the error is a sentence.
pub fn read(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it has {size} bytes, more than {FILE_BYTES_MAX}"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn markdown_files(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    const DEPTH_MAX: usize = 4;
    let entries = std::fs::read_dir(folder).map_err(|error| format!("it cannot be listed: {error}"))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && depth < DEPTH_MAX && files.len() <= FILES_MAX {
            markdown_files(&path, depth + 1, files)?;
        } else if !hidden && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("md")) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(folder: &Path) -> Shelf {
        Shelf::load(&[folder.to_owned()], true)
    }

    #[test]
    fn a_teams_runbook_stands_in_for_ours_and_its_alerts_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let own = "---\nid: rate-limits\nmatch: { alerts: [rate_limit] }\n---\n# Ours\n## Investigation\n```sh\nls\n```\n";
        std::fs::write(folder.path().join("limits.md"), own).unwrap();
        let other = "---\nid: own\nmatch: { alerts: [TimeoutSpike] }\n---\n# Own\n## Investigation\n```sh\nls\n```\n";
        std::fs::write(folder.path().join("own.MD"), other).unwrap();
        std::fs::write(folder.path().join("notes.md"), "no heading").unwrap();
        let shelf = with(folder.path());
        assert_eq!(shelf.lines().len(), crate::library::LIBRARY.len() + 1);
        assert_eq!(shelf.get("rate-limits").unwrap().origin, Origin::Folder);
        let of = |alert: &str| shelf.choose(&Wanted { alerts: vec![alert], ..Wanted::default() }).map(|found| found.runbook.id.clone());
        assert_eq!(of("TimeoutSpike").as_deref(), Some("own"));
        assert_eq!(of("ContainerOomKilled").as_deref(), Some("oom-killed"));
        assert_eq!(of("repeat-exact").as_deref(), Some("stuck-agent"), "as the detector is told");
        assert_eq!(of("timeout").as_deref(), Some("agent-timeout"), "by the kind of the incident");
        assert_eq!(of("nobody"), None);
        assert_eq!(of("repeat-exact").as_deref(), Some("stuck-agent"));
        assert_eq!(of("repeat_exact").as_deref(), Some("stuck-agent"), "however it is written");
        let named = shelf.choose(&Wanted { alerts: vec!["TimeoutSpike"], named: vec!["gone", "agent-timeout"], ..Wanted::default() });
        assert_eq!(named.unwrap().runbook.id, "agent-timeout");
        assert!(shelf.untaken.iter().any(|one| one.file.ends_with("notes.md") && one.why.contains("no runbook")));
    }

    #[test]
    fn findings_are_those_of_the_linter_and_found_once_for_all_runbooks_of_a_document() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# A\n## Resolution\n```sh\nrm -rf /var/lib/x\n```\n\n# B\n## Resolution\n```sh\nls\n```\n";
        std::fs::write(folder.path().join("two.md"), text).unwrap();
        let shelf = Shelf::load(&[folder.path().to_owned()], false);
        let all: Vec<&Shelved> = shelf.all().collect();
        assert!(all.iter().all(|one| LazyLock::get(&one.findings).is_none()), "nobody asked yet");
        let file = folder.path().join("two.md").display().to_string();
        assert_eq!(**all[0].findings, lint(&parse(text, &file)));
        assert!(all[0].line().warnings + all[0].line().errors > 0);
        assert!(all.iter().all(|one| Arc::ptr_eq(&one.findings, &all[0].findings)));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let shelf = with(Path::new("/nowhere/at/all"));
        assert_eq!(shelf.untaken.len(), 1);
        assert!(shelf.untaken[0].why.contains("cannot be listed"), "{:?}", shelf.untaken);
    }
}
