//! Any bytes as a transcript: as lines of a session, of a sub-agent and of a workflow's journal, and as stream-json.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use paramedic_collect::stream_json;
use paramedic_collect::transcript::{LineReader, ParseOptions, Parser, Piece};
use paramedic_model::Timestamp;

fuzz_target!(|data: &[u8]| {
    for path in ["/p/s1.jsonl", "/p/s1/subagents/agent-a1.jsonl", "/p/s1/subagents/workflows/wf/journal.jsonl"] {
        for capture_text in [false, true] {
            let mut parser = Parser::new(ParseOptions { capture_text }, Path::new(path));
            let mut reader = LineReader::new(64 * 1024);
            let mut events = Vec::new();
            let mut source = data;
            while reader.fill(&mut source).is_ok_and(|read| read > 0) {
                loop {
                    match reader.next_piece() {
                        Piece::Line(line) => parser.parse(line, &mut events),
                        Piece::Oversized { .. } => parser.skip_oversized(),
                        Piece::NeedMore => break,
                    }
                }
            }
            parser.parse(reader.rest(), &mut events);
            parser.finish(&mut events);
        }
    }
    let mut parser = stream_json::Parser::new(ParseOptions::default());
    let mut events = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        parser.parse(line, Timestamp::EPOCH, &mut events);
    }
    parser.finish(Timestamp::EPOCH, &mut events);
});
