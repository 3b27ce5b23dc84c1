//! How one event is one row, and back.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_model::event::{Attributes, Correlation};
use paramedic_model::{AgentId, Event, Fact, Level, SessionId, Source, Timestamp};
use rusqlite::types::Null;
use rusqlite::{Connection, Row, Statement};

use crate::store::StoredEvent;

/// The position in these lists is what is stored. Only ever append.
pub(crate) const SOURCES: [&str; 9] =
    ["transcript", "stream-json", "hook", "otlp-log", "otlp-metric", "otlp-span", "log", "process", "gateway"];
pub(crate) const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

const fn source_code(source: Source) -> i64 {
    match source {
        Source::Transcript => 0,
        Source::StreamJson => 1,
        Source::Hook => 2,
        Source::OtlpLog => 3,
        Source::OtlpMetric => 4,
        Source::OtlpSpan => 5,
        Source::Log => 6,
        Source::Process => 7,
        Source::Gateway => 8,
    }
}

const fn level_code(level: Level) -> i64 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

/// Kind, level and source of a row in one small number: kind in bits 16 to 23, level in 8 to 15, source in 0 to 7.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class(pub(crate) i64);

impl Class {
    const fn of(event: &Event) -> Self {
        Self((event.fact.number() as i64) << 16 | level_code(event.level) << 8 | source_code(event.source))
    }

    pub(crate) const fn kind(self) -> i64 {
        (self.0 >> 16) & 255
    }

    pub(crate) const fn level(self) -> i64 {
        (self.0 >> 8) & 255
    }

    pub(crate) const fn source(self) -> i64 {
        self.0 & 255
    }

    fn source_value(self) -> Source {
        SOURCES.get(usize::try_from(self.source()).unwrap_or(0)).and_then(|name| Source::from_name(name)).unwrap_or(Source::Log)
    }

    fn level_value(self) -> Level {
        LEVELS.get(usize::try_from(self.level()).unwrap_or(0)).and_then(|name| Level::from_name(name)).unwrap_or(Level::Info)
    }
}

pub(crate) fn code_of(names: &[&str], name: &str) -> Option<i64> {
    names.iter().position(|one| *one == name).and_then(|code| i64::try_from(code).ok())
}

pub(crate) const INSERT: &str = "insert into events(seq, at, class, agent, session, name, uid, text, attributes, fact, correlation)
     values(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
/// The order in which [`decode`] expects the columns.
pub(crate) const COLUMNS: &str = "seq, at, class, agent, session, name, uid, text, attributes, fact, correlation";

/// Buffers that are reused for every row.
#[derive(Default)]
pub(crate) struct Encoder {
    json: Vec<u8>,
}

/// Ids of the words that stand in a row instead of the texts.
pub(crate) struct WordIds {
    pub(crate) agent: Option<i64>,
    pub(crate) session: Option<i64>,
    pub(crate) name: i64,
}

impl Encoder {
    pub(crate) fn insert(&mut self, insert: &mut Statement<'_>, seq: i64, event: &Event, words: &WordIds) -> rusqlite::Result<()> {
        insert.raw_bind_parameter(1, seq)?;
        insert.raw_bind_parameter(2, event.at.as_micros())?;
        insert.raw_bind_parameter(3, Class::of(event).0)?;
        insert.raw_bind_parameter(4, words.agent)?;
        insert.raw_bind_parameter(5, words.session)?;
        insert.raw_bind_parameter(6, words.name)?;
        insert.raw_bind_parameter(7, event.uid.map(u64::cast_signed))?;
        insert.raw_bind_parameter(8, &*event.text)?;
        if event.attributes.is_empty() {
            insert.raw_bind_parameter(9, Null)?;
        } else {
            self.json.clear();
            crate::json::write_attributes(&event.attributes, &mut self.json);
            self.bind(insert, 9)?;
        }
        if matches!(event.fact, Fact::Record) {
            insert.raw_bind_parameter(10, Null)?;
        } else {
            self.bind_serialized(insert, 10, &event.fact)?;
        }
        if event.correlation.is_empty() {
            insert.raw_bind_parameter(11, Null)?;
        } else {
            self.bind_serialized(insert, 11, &event.correlation)?;
        }
        insert.raw_execute()?;
        Ok(())
    }

    fn bind_serialized(&mut self, insert: &mut Statement<'_>, column: usize, value: &impl serde::Serialize) -> rusqlite::Result<()> {
        self.json.clear();
        match serde_json::to_writer(&mut self.json, value) {
            Ok(()) => self.bind(insert, column),
            Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(error.into())),
        }
    }

    fn bind(&self, insert: &mut Statement<'_>, column: usize) -> rusqlite::Result<()> {
        match std::str::from_utf8(&self.json) {
            Ok(text) => insert.raw_bind_parameter(column, text),
            Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(error.into())),
        }
    }
}

/// Words of one partition by id, as a reader has met them. Bounded: it is emptied when it is full.
#[derive(Default)]
pub(crate) struct WordTexts(HashMap<i64, Arc<str>>);

const WORD_TEXTS_MAX: usize = 8 * 1024;

impl WordTexts {
    pub(crate) fn text(&mut self, conn: &Connection, id: i64) -> rusqlite::Result<Arc<str>> {
        if let Some(text) = self.0.get(&id) {
            return Ok(text.clone());
        }
        let text: Arc<str> = conn.prepare_cached("select word from words where id = ?1")?.query_row([id], |row| row.get(0))?;
        if self.0.len() >= WORD_TEXTS_MAX {
            self.0.clear();
        }
        self.0.insert(id, text.clone());
        Ok(text)
    }
}

/// A row as an event. JSON that cannot be read back leaves its part empty and is counted by the caller.
pub(crate) fn decode(row: &Row<'_>, conn: &Connection, texts: &mut WordTexts) -> rusqlite::Result<(StoredEvent, bool)> {
    let class = Class(row.get(2)?);
    let mut readable = true;
    let mut word = |column: usize| -> rusqlite::Result<Option<Arc<str>>> {
        let id: Option<i64> = row.get(column)?;
        id.map(|id| texts.text(conn, id)).transpose()
    };
    let (agent, session, name) = (word(3)?, word(4)?, word(5)?);
    let mut event =
        Event::new(Timestamp::from_micros(row.get(1)?), class.source_value(), name.as_deref().map(Box::<str>::from).unwrap_or_default());
    event.level = class.level_value();
    event.agent = agent.map(AgentId::new);
    event.session = session.map(SessionId::new);
    event.uid = row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned);
    event.text = text(row, 7)?.unwrap_or_default().into();
    event.attributes = json::<Attributes>(row, 8, &mut readable)?.unwrap_or_default();
    event.fact = json::<Fact>(row, 9, &mut readable)?.unwrap_or(Fact::Record);
    event.correlation = json::<Correlation>(row, 10, &mut readable)?.unwrap_or_default();
    Ok((StoredEvent { seq: row.get::<_, i64>(0)?.cast_unsigned(), event }, readable))
}

/// The column's text without a copy; text that is no longer UTF-8 reads as nothing.
pub(crate) fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<Option<&'row str>> {
    Ok(row.get_ref(column)?.as_str_or_null().unwrap_or_default())
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize, readable: &mut bool) -> rusqlite::Result<Option<T>> {
    Ok(text(row, column)?.and_then(|text| {
        let value = serde_json::from_str(text).ok();
        *readable &= value.is_some();
        value
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_every_source_level_and_kind() {
        for source in Source::ALL {
            assert_eq!(SOURCES[usize::try_from(source_code(*source)).unwrap()], source.as_str());
        }
        for level in Level::ALL {
            assert_eq!(LEVELS[usize::try_from(level_code(*level)).unwrap()], level.as_str());
        }
        for fact in [Fact::Record, Fact::Prompt, Fact::ToolProgress { id: None }, Fact::SubagentEnded { completed: true }] {
            assert_eq!(Fact::KINDS[usize::from(fact.number())], fact.kind());
        }
    }
}
