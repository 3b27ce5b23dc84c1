//! A large history: real sessions, repeated with fresh ids until it is large enough.
//!
//! Every copy must look like sessions of their own, or a program that counts a call once would skip them: session ids
//! (in names and lines), message ids, request ids and line ids differ between copies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

use super::folder;

/// Makes (or finds) a `CLAUDE_CONFIG_DIR` with so many megabytes of sessions.
pub(super) fn make(megabytes: u64) -> Result<PathBuf> {
    let root = folder()?.join(format!("corpus-{megabytes}"));
    let done = root.join("done");
    if done.is_file() {
        return Ok(root);
    }
    let data = paths::real_data().context("no recorded sessions: set PARAMEDIC_SHARED_DATA")?;
    let projects = data.join("transcripts/projects");
    let mut sources = Vec::new();
    for file in transcripts(&projects)? {
        sources.push(Source::read(&projects, &file)?);
    }
    println!("making {megabytes} MB of sessions in {}", root.display());
    let mut written = 0;
    for copy in 0_u32.. {
        for source in &sources {
            written += source.write(&root.join("projects"), copy)?;
        }
        if written >= megabytes * 1_000_000 {
            break;
        }
    }
    fs::write(&done, written.to_string())?;
    Ok(root)
}

/// Bytes of all files below a folder.
pub(super) fn size(root: &Path) -> Result<u64> {
    transcripts(root)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

fn transcripts(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// One file, and where in it ids begin: a copy differs in a few bytes at each place and nowhere else.
struct Source {
    name: String,
    bytes: Vec<u8>,
    /// Places of eight hexadecimal digits: session ids and line ids.
    hex: Vec<usize>,
    /// Places of four letters or digits: message and request ids.
    short: Vec<usize>,
}

impl Source {
    fn read(root: &Path, file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.strip_prefix(root)?.display().to_string();
        let session = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let (mut hex, mut short) = (Vec::new(), Vec::new());
        for place in (0..bytes.len()).filter(|place| matches!(bytes[*place], b'"' | b'm' | b'r' | b'a'..=b'f' | b'0'..=b'9')) {
            let rest = &bytes[place..];
            if session.len() == 36 && rest.starts_with(session.as_bytes()) {
                hex.push(place);
            } else if rest.starts_with(b"\"uuid\":\"") {
                hex.push(place + 8);
            } else if rest.starts_with(b"\"parentUuid\":\"") {
                hex.push(place + 14);
            } else if rest.starts_with(b"msg_01") || rest.starts_with(b"req_01") {
                // The ids begin with a constant; what follows stays random.
                short.push(place + 6);
            }
        }
        hex.retain(|place| bytes.len() >= place + 8);
        short.retain(|place| bytes.len() >= place + 4);
        Ok(Self { name, bytes, hex, short })
    }

    fn write(&self, projects: &Path, copy: u32) -> Result<u64> {
        let mut bytes = self.bytes.clone();
        for place in &self.hex {
            // Half of the eight digits stay, so that ids of one copy stay apart from one another.
            bytes[*place..place + 4].copy_from_slice(format!("{copy:04x}").as_bytes());
        }
        for place in &self.short {
            bytes[*place..place + 4].copy_from_slice(format!("{copy:04x}").as_bytes());
        }
        let (folder, file) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let file = if file.len() > 36 { format!("{copy:04x}{}", &file[4..]) } else { file.to_owned() };
        let folder = projects.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let path = folder.join(file);
        fs::write(&path, &bytes).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_differs_in_every_id_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let session = "11112222-3333-4444-8555-666677778888";
        let line = format!(
            r#"{{"uuid":"aaaabbbb-1","parentUuid":"ccccdddd-2","sessionId":"{session}","message":{{"id":"msg_01WXYZrest"}},"requestId":"req_01WXYZrest","text":"kept"}}"#
        );
        let file = folder.path().join(format!("{session}.jsonl"));
        fs::write(&file, &line).unwrap();
        Source::read(folder.path(), &file).unwrap().write(&folder.path().join("out"), 0xabc).unwrap();
        let copied = fs::read_to_string(folder.path().join("out/0abc2222-3333-4444-8555-666677778888.jsonl")).unwrap();
        let expected = r#"{"uuid":"0abcbbbb-1","parentUuid":"0abcdddd-2","sessionId":"0abc2222-3333-4444-8555-666677778888","message":{"id":"msg_010abcrest"},"requestId":"req_010abcrest","text":"kept"}"#;
        assert_eq!(copied, expected);
    }
}
