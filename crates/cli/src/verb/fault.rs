//! `paramedic fault`: faults on purpose, while somebody holds a lease.

use anyhow::Result;
use paramedic_api::operations::gateway::{FaultLease, FaultReleased};
use paramedic_gateway::fault::{Fault, Lease};
use serde_json::json;

use crate::args::{Common, FaultArgs, FaultKind, FaultVerb};
use crate::exit::{Exit, Failure};
use crate::face::Face;
use crate::show;

const DELAY_MS: u64 = 5_000;
const CUT_BYTES: u64 = 200;

pub(super) async fn fault(common: &Common, verb: &FaultVerb) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    match verb {
        FaultVerb::Show => {
            let (held, value) = face.get::<FaultLease>("fault.get", &json!({})).await?;
            print(common, &held, &value)
        }
        FaultVerb::Lease(args) => {
            let input = json!({
                "fault": fault_of(args)?, "id": args.id, "scope": args.scope, "share": args.share, "ttl": args.lasts, "why": args.reason,
            });
            let (held, value) = face.post::<FaultLease>("fault.lease", &input).await?;
            print(common, &held, &value)
        }
        FaultVerb::Release { id, reason } => release(common, &face, id.as_deref(), reason).await,
    }
}

async fn release(common: &Common, face: &Face, id: Option<&str>, reason: &str) -> Result<Exit> {
    let id = match id {
        Some(id) => id.to_owned(),
        None => {
            let (held, _) = face.get::<FaultLease>("fault.get", &json!({})).await?;
            let none = || Failure::new(Exit::NotFound, "no faults are done, so there is nothing to release", "paramedic fault show");
            held.lease.ok_or_else(none)?.id
        }
    };
    let (released, value) = face.post::<FaultReleased>("fault.release", &json!({"id": id, "why": reason})).await?;
    if common.json {
        show::json(&value)?;
    } else {
        show::line(&format!("{} is released: no faults are done any more", show::clean(&released.id)))?;
    }
    Ok(Exit::Done)
}

fn fault_of(args: &FaultArgs) -> Result<Fault> {
    let wrong = |option: &str| Failure::new(Exit::Failed, format!("{option} is not for this fault"), "see: paramedic fault lease --help");
    let delay = args.delay.as_deref().map(|text| {
        let delay = paramedic_action::call::duration(text).map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        delay.ok_or_else(|| Failure::new(Exit::Failed, format!("--delay {text}: it is no duration"), "--delay 5s"))
    });
    let delay = delay.transpose()?;
    let FaultArgs { kind, retry_after, after_bytes, .. } = args;
    for (option, given, is_for) in [
        ("--retry-after", retry_after.is_some(), FaultKind::RateLimited),
        ("--delay", delay.is_some(), FaultKind::Slow),
        ("--after-bytes", after_bytes.is_some(), FaultKind::CutAfter),
    ] {
        if given && *kind != is_for {
            return Err(wrong(option).into());
        }
    }
    Ok(match kind {
        FaultKind::RateLimited => Fault::RateLimited { retry_after_s: *retry_after },
        FaultKind::Overloaded => Fault::Overloaded,
        FaultKind::ServerError => Fault::ServerError,
        FaultKind::Slow => Fault::Slow { delay_ms: delay.unwrap_or(DELAY_MS) },
        FaultKind::CutAfter => Fault::CutAfter { bytes: after_bytes.unwrap_or(CUT_BYTES) },
        FaultKind::MalformedEvent => Fault::MalformedEvent,
    })
}

fn print(common: &Common, held: &FaultLease, value: &serde_json::Value) -> Result<Exit> {
    if common.json {
        show::json(value)?;
        return Ok(Exit::Done);
    }
    let Some(lease) = &held.lease else {
        show::line("No faults are done. For a drill: paramedic fault lease overloaded --share 0.2 --for 5m --reason drill")?;
        return Ok(Exit::Done);
    };
    show::line(&words(lease))?;
    show::line("paramedic fault release ends it; answers that it touches have the header x-paramedic-fault")?;
    Ok(Exit::Done)
}

fn words(lease: &Lease) -> String {
    let what = match lease.fault {
        Fault::RateLimited { retry_after_s: Some(wait) } => format!("answered with 429, to wait {wait} s"),
        Fault::RateLimited { retry_after_s: None } => "answered with 429".to_owned(),
        Fault::Overloaded => "answered with 529".to_owned(),
        Fault::ServerError => "answered with 500".to_owned(),
        Fault::Slow { delay_ms } => format!("slowed down by {}", super::traffic::millis(delay_ms)),
        Fault::CutAfter { bytes } => format!("cut after {bytes} bytes of their answer"),
        Fault::MalformedEvent => "given a malformed event".to_owned(),
    };
    format!(
        "{}: {:.0} % of the calls of {} are {what} until {}, by {}",
        show::clean(&lease.id),
        lease.share * 100.0,
        show::clean(&lease.scope.to_string()),
        lease.until,
        show::clean(&lease.by)
    )
}
