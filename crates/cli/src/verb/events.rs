//! `paramedic events`.

use anyhow::Result;
use serde_json::{Value, json};

use super::agents::{text, time};
use crate::args::{Common, EventsArgs};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn events(common: &Common, args: &EventsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let words = args.text.join(" ");
    let moment = |text: &Option<String>| text.as_deref().map(super::incidents::time).transpose();
    let query = json!({
        "from": moment(&args.since)?,
        "to": moment(&args.until)?,
        "agent": args.agent,
        "session": args.session,
        "kind": args.kind,
        "source": args.source,
        "name": args.name,
        "level": args.level,
        "text": (!words.is_empty()).then_some(words),
        "prompt": args.prompt,
        "request": args.request,
        "trace": args.trace,
        "user": args.user,
        "oldest_first": args.oldest_first.then_some(true),
        "limit": args.limit,
    });
    let (page, value) = face.get::<Value>("event.search", &query).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let empty = Vec::new();
    let found = page["events"].as_array().unwrap_or(&empty);
    if found.is_empty() {
        show::line("No events match.")?;
        return Ok(Exit::Done);
    }
    for event in in_time(found) {
        show::line(&line_of(event))?;
    }
    if page["more"] == true {
        show::line(&format!("({} shown, there are more: --limit, --since, --until)", found.len()))?;
    }
    Ok(Exit::Done)
}

/// A log is read downwards, whichever end was asked for. The store knows the order of arrival; sources tell late.
pub(super) fn in_time(found: &[Value]) -> Vec<&Value> {
    let mut events: Vec<&Value> = found.iter().collect();
    events.sort_by_key(|event| (time(event, "at"), event["seq"].as_u64()));
    events
}

/// One event as one line.
pub(super) fn line_of(event: &Value) -> String {
    let at = time(event, "at").map_or_else(String::new, |at| at.to_string());
    let agent = text(event, "agent");
    let short: String = agent.chars().take(8).collect();
    show::clean(&format!(
        "{at} {:<5} {short:<8} {:<14} {:<26} {}",
        text(event, "level"),
        text(event, "kind"),
        text(event, "name"),
        text(event, "text")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_in_the_order_of_what_happened() {
        let at = |seq: u64, secs: u32| json!({"seq": seq, "at": format!("2026-03-10T14:00:{secs:02}Z")});
        // The newest arrival first, as the store gives it; the fourth was told late.
        let found = [at(4, 1), at(3, 9), at(2, 5), at(1, 5)];
        let order: Vec<u64> = in_time(&found).iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert_eq!(order, [4, 1, 2, 3]);
    }
}
