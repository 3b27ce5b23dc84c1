//! Data restored from a backup into a new place.
//!
//! **Takes** a backup and a place that is new or empty. **Gives** the data there, after the backup was seen to be fresh and whole.
//! **Never** writes over anything, and never leaves half of it under the name that was asked for.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Clock;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::address::shown;
use crate::call::{Call, Done, Object, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

mod check;

mod manifest;

mod place;

mod program;

mod database;

use check::{Form, Report};

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder in which backups lie that are named without one. Default empty: backups are named in full.
    pub backups: String,
    /// The folder into which is restored what is named without one. Default empty: places are named in full.
    pub folder: String,
    /// A server for dumps of databases: `postgres://user:password@host:5432/postgres`. Default empty: dumps are only copied.
    pub postgres: String,
    /// How long `pg_restore`, `tar` and `redis-check-rdb` may take, in seconds. Default 3600.
    pub timeout_s: u64,
    /// What one backup may be when it is unpacked, in bytes. Default 1 TiB.
    pub bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { backups: String::new(), folder: String::new(), postgres: String::new(), timeout_s: 3_600, bytes_max: 1 << 40 }
    }
}

const BACKUP: Argument = Argument::required("backup", Kind::Text, "the file or folder");
const MAX_AGE: Argument = Argument::required("max_age", Kind::Duration, "an older one is refused");

pub(crate) static SPECS: &[Spec] = &[
    Spec {
        name: "data.backup_check",
        summary: "Says how old a backup is and whether it is whole.",
        effect: Effect::Read,
        arguments: &[BACKUP, MAX_AGE],
        undo: "nothing to undo",
    },
    Spec {
        name: "data.restore",
        summary: "Restores a backup into a new place, or a dump into a new database, and never over anything.",
        effect: Effect::Write,
        arguments: &[
            BACKUP,
            Argument::required("into", Kind::Text, "a path that is new or an empty folder; for a dump also the name of a new database"),
            MAX_AGE,
        ],
        undo: "nothing was overwritten: remove what was restored",
    },
];

/// The actions on backups.
pub struct Restores {
    settings: Settings,
    clock: Arc<dyn Clock>,
}

/// Where it goes.
enum Target {
    Path(PathBuf),
    Database(String),
}

impl Restores {
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock }
    }

    /// A path as it is meant, without ways around it.
    fn path(&self, call: &Call, argument: &str, folder: &str, setting: &str) -> Result<PathBuf, ActionError> {
        let text = call.text(argument)?;
        if text.len() > 1_024 || text.chars().any(char::is_control) {
            return Err(call.fault(argument, "it is not a path"));
        }
        let path = Path::new(&text);
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(call.fault(argument, "it must not hold .."));
        }
        if path.is_absolute() {
            return Ok(path.to_path_buf());
        }
        if folder.is_empty() {
            let why = format!("{argument} is {:?}, no full path, and the setting {setting} is empty", shown(&text, None));
            return Err(ActionError::NotSetUp { action: call.action.clone(), why });
        }
        Ok(Path::new(folder).join(path))
    }

    fn target(&self, call: &Call, form: Form) -> Result<Target, ActionError> {
        let into = call.text("into")?;
        if form == Form::PgDump && !self.settings.postgres.is_empty() && database::is_name(&into) {
            return Ok(Target::Database(into));
        }
        self.path(call, "into", &self.settings.folder, "action.restore.folder").map(Target::Path)
    }

    async fn report(&self, call: &Call) -> Result<(PathBuf, Report), ActionError> {
        let backup = self.path(call, "backup", &self.settings.backups, "action.restore.backups")?;
        let max_age = call.duration("max_age")?;
        let limit = check::Limit { bytes_max: self.settings.bytes_max, timeout: Duration::from_secs(self.settings.timeout_s) };
        let report = check::check(&call.action, &backup, max_age, self.clock.now(), limit).await?;
        Ok((backup, report))
    }

    async fn look(&self, call: &Call) -> Result<Plan, ActionError> {
        if call.action == "data.backup_check" {
            let backup = self.path(call, "backup", &self.settings.backups, "action.restore.backups")?;
            call.duration("max_age")?;
            return Ok(Plan::new(call, Effect::Read, format!("check the backup {}", backup.display())));
        }
        let (backup, report) = self.report(call).await?;
        let refused = |why: String| ActionError::Refused { action: call.action.clone(), why };
        if !report.fresh {
            return Err(refused(format!("the backup {} is {} s old, which is too old", backup.display(), report.age_s)));
        }
        if report.intact != Some(true) {
            let word = if report.intact.is_none() { "cannot be seen to be whole" } else { "is damaged" };
            return Err(refused(format!("the backup {} {word}: {}", backup.display(), report.how)));
        }
        let (into, exact) = match self.target(call, report.form)? {
            Target::Database(name) => {
                database::must_be_new(&self.settings, call, &name).await?;
                (format!("the new database {name}"), database::exact(&name, &backup))
            }
            Target::Path(into) => {
                let place = place::Place::of(call, &into, &backup, report.form)?;
                place.must_have_room(call, report.bytes)?;
                (place.target.display().to_string(), place.exact(&backup, report.form))
            }
        };
        let mut plan = Plan::new(call, Effect::Write, format!("restore {} into {into}", backup.display()));
        let detail =
            format!("{}, {} bytes in {} files, {} s old: {}", report.form.word(), report.bytes, report.files, report.age_s, report.how);
        plan.objects.push(Object { kind: "backup".to_owned(), name: backup.display().to_string(), detail });
        plan.affected = report.files;
        plan.exact = exact;
        plan.stands_on = report.stands_on;
        plan.warnings.push(format!("nothing is overwritten; to take it back remove {into}"));
        Ok(plan)
    }

    async fn act(&self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let (backup, report) = self.report(call).await?;
        if call.action == "data.backup_check" {
            let answer = json!({
                "fresh": report.fresh, "intact": report.intact, "age_s": report.age_s, "bytes": report.bytes, "files": report.files,
                "form": report.form.word(), "how": report.how,
            });
            return Ok(Done::looked(format!("checked the backup {}", backup.display()), answer));
        }
        if report.stands_on != plan.stands_on || !report.fresh || report.intact != Some(true) {
            let why = format!("the backup {} is not what it was", backup.display());
            return Err(ActionError::Changed { action: call.action.clone(), why });
        }
        let (into, verified) = match self.target(call, report.form)? {
            Target::Database(name) => {
                let verified = database::restore(&self.settings, call, &backup, &name, cancel).await?;
                (format!("the database {name}"), verified)
            }
            Target::Path(into) => {
                let place = place::Place::of(call, &into, &backup, report.form)?;
                place.must_have_room(call, report.bytes)?;
                let target = place.target.display().to_string();
                let limit = Duration::from_secs(self.settings.timeout_s);
                (target, place.restore(call, &backup, &report, limit, cancel).await?)
            }
        };
        let mut done = Done::new(format!("restored {} into {into}; to take it back remove {into}", backup.display()), verified);
        done.affected = report.files;
        done.after = json!({ "into": into, "bytes": report.bytes, "files": report.files });
        Ok(done)
    }
}

impl Adapter for Restores {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(self.look(call))
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.act(call, plan, cancel))
    }
}
