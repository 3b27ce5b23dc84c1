//! `paramedic ingest FILE|-`: lines are sent as they come, so that a running agent is seen while it runs.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::args::{Common, IngestArgs, IngestFormat};
use crate::exit::Exit;
use crate::face::{self, Face};
use crate::show;

pub(super) async fn ingest(common: &Common, args: &IngestArgs) -> Result<Exit> {
    let is_standard_input = args.path == Path::new("-");
    if !is_standard_input {
        face::must_exist(&args.path)?;
    }
    let face = Face::open_running(common).await?;
    let format = match args.format {
        IngestFormat::Auto => "auto",
        IngestFormat::StreamJson => "stream-json",
        IngestFormat::Transcript => "transcript",
        IngestFormat::Hook => "hook",
        IngestFormat::Log => "log",
    };
    let name = if is_standard_input { String::new() } else { args.path.to_string_lossy().into_owned() };
    let mut target = format!("/ingest?format={format}&name={}", face::escape(&name, b"/"));
    for (key, value) in
        [("agent", agent(args, is_standard_input)), ("session", args.session.clone()), ("time_zone", args.time_zone.clone())]
    {
        if let Some(value) = value {
            target.push_str(&format!("&{key}={}", face::escape(&value, b"")));
        }
    }
    let (chunks, body) = tokio::sync::mpsc::channel(16);
    let reader = tokio::spawn(read(args.path.clone(), is_standard_input, chunks));
    let answer = face.stream(&target, body).await?;
    reader.await?.with_context(|| format!("failed to read {}", args.path.display()))?;
    let value: Value = serde_json::from_slice(&answer)?;
    if common.json {
        show::json(&value)?;
    } else {
        let count = |key: &str| show::count(value[key].as_u64().unwrap_or(0));
        show::line(&format!(
            "{} lines ({}), {} events, {} lines that could not be read",
            count("lines"),
            value["format"].as_str().unwrap_or("?"),
            count("events"),
            count("bad_lines")
        ))?;
    }
    Ok(Exit::Done)
}

/// Lines of a file that name no agent belong to one that is named like the file; standard input has no name.
fn agent(args: &IngestArgs, is_standard_input: bool) -> Option<String> {
    let stem = || args.path.file_stem().filter(|_| !is_standard_input).map(|stem| stem.to_string_lossy().into_owned());
    args.agent.clone().or_else(stem)
}

async fn read(path: std::path::PathBuf, is_standard_input: bool, chunks: tokio::sync::mpsc::Sender<bytes::Bytes>) -> std::io::Result<()> {
    let mut source: Box<dyn tokio::io::AsyncRead + Send + Unpin> =
        if is_standard_input { Box::new(tokio::io::stdin()) } else { Box::new(tokio::fs::File::open(path).await?) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = source.read(&mut buffer).await?;
        if count == 0 || chunks.send(bytes::Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return Ok(());
        }
    }
}
