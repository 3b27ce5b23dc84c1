//! `paramedic connect claude-code`.

use anyhow::{Context as _, Result};
use paramedic_server::connect;
use paramedic_server::instance::{Ports, is_running};
use serde_json::json;

use crate::args::{Common, ConnectVerb};
use crate::exit::{Exit, Failure, message};
use crate::{face, show};

pub(super) fn connect(common: &Common, verb: &ConnectVerb) -> Result<Exit> {
    let ConnectVerb::ClaudeCode { write, undo, gateway } = verb;
    let settings = face::settings(common)?;
    let dir = settings.claude_dirs().into_iter().next().context("no Claude Code folder is known; name it with --claude-dir DIR")?;
    if *undo {
        let outcome = connect::undo(&dir).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        return told(common, "taken away from", &outcome);
    }
    let data_dir = settings.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    let ports = match Ports::read(&data_dir).filter(|_| is_running(&data_dir)) {
        Some(ports) => ports,
        None => {
            message("no paramedic is running here; these are the addresses it will use when it is started");
            let address = |key| settings.listen.address(key).map_err(|error| anyhow::anyhow!("failed to {error}"));
            Ports {
                pid: 0,
                http: address("http")?,
                otlp_grpc: address("otlp_grpc")?,
                otlp_http: address("otlp_http")?,
                gateway: address("gateway")?,
            }
        }
    };
    if *gateway && ports.gateway.is_none() {
        return Err(Failure::new(
            Exit::Refused,
            "the gateway of this instance is switched off",
            "set listen.gateway in its settings, or start it with: paramedic up --gateway 127.0.0.1:8484",
        )
        .into());
    }
    let environment = connect::environment(&ports, *gateway);
    if *write {
        let outcome = connect::write_environment(&dir, &ports, &environment).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        return told(common, "added to", &outcome);
    }
    let hooks = connect::hooks(&ports);
    if common.json {
        let environment: serde_json::Map<_, _> = environment.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        show::json(&json!({"env": environment, "hooks": hooks}))?;
        return Ok(Exit::Done);
    }
    show::line("# In the shell that starts Claude Code:")?;
    for (name, value) in environment {
        show::line(&format!("export {name}={value}"))?;
    }
    let with = if *gateway { " --gateway" } else { "" };
    show::line(&format!("\n# In {} (or: paramedic connect claude-code{with} --write):", dir.join("settings.json").display()))?;
    show::line(&serde_json::to_string(&json!({"hooks": hooks}))?)?;
    if let Some(address) = ports.gateway.filter(|_| !*gateway) {
        show::line(&format!(
            "\n# Its model calls can go through the gateway at {address}, where switches, budgets and limits hold them:\n# paramedic connect claude-code --gateway"
        ))?;
    }
    Ok(Exit::Done)
}

fn told(common: &Common, verb: &str, outcome: &connect::Outcome) -> Result<Exit> {
    if common.json {
        show::json(&serde_json::to_value(outcome)?)?;
        return Ok(Exit::Done);
    }
    show::line(&format!("{} keys {verb} {}:", outcome.changed.len(), outcome.file.display()))?;
    for key in &outcome.changed {
        show::line(&format!("  {key}"))?;
    }
    for key in &outcome.kept {
        show::line(&format!("  left alone, because it was set by somebody else: {key}"))?;
    }
    if verb == "added to" {
        message("agents started from now on are connected; undo with: paramedic connect claude-code --undo");
    }
    Ok(Exit::Done)
}
