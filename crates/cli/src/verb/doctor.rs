//! `paramedic doctor`.

use anyhow::Result;
use paramedic_server::doctor::{self, Verdict};

use crate::args::Common;
use crate::exit::Exit;
use crate::{face, show};

pub(super) fn doctor(common: &Common) -> Result<Exit> {
    let checks = doctor::run(&face::settings(common)?);
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Failed);
    if common.json {
        show::json(&serde_json::json!({"healthy": healthy, "checks": checks}))?;
    } else {
        for check in &checks {
            let mark = match check.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED ",
            };
            show::line(&format!("{mark} {:<16} {}", check.name, show::clean(&check.detail)))?;
            if !check.hint.is_empty() {
                show::line(&format!("        {:<16} {}", "", check.hint))?;
            }
        }
    }
    Ok(if healthy { Exit::Done } else { Exit::FoundProblems })
}
