//! What must hold for an event to be found, and which files, blocks and rows need not be looked at.

use std::collections::HashSet;

use paramedic_model::Fact;
use paramedic_model::event::Correlation;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Search, Trouble};
use crate::index::{LEVEL_TOKEN_MIN, bit, correlation_token, word_token};
use crate::partition::{Partition, Summary};
use crate::query::{FieldTokens, TextQuery};
use crate::row::{self, Class, LEVELS, SOURCES};

/// Sub-agents that are asked of the index one by one; with more of them the rows decide.
const AGENTS_IN_QUERY_MAX: usize = 64;

pub(super) struct Filter {
    at: (i64, i64),
    seq: (u64, u64),
    agent: Option<String>,
    /// `<session>/` when all sub-agents are meant.
    subagents_of: Option<String>,
    session: Option<String>,
    name: Option<String>,
    kind: Option<i64>,
    source: Option<i64>,
    level_min: i64,
    text: Option<TextQuery>,
    correlation: [(char, Option<String>); 4],
}

/// The filter's names as ids of one partition.
pub(super) struct Words {
    agents: Option<HashSet<i64>>,
    session: Option<i64>,
    name: Option<i64>,
}

impl Filter {
    /// `None` when nothing can match: a kind or source that does not exist.
    pub(super) fn new(search: &Search) -> Option<Self> {
        let code = |names: &[&str], name: &Option<String>| match name {
            None => Some(None),
            Some(name) => row::code_of(names, name).map(Some),
        };
        let subagents_of = search.agent.as_ref().filter(|agent| agent.ends_with("/*")).map(|agent| agent.trim_end_matches('*').to_owned());
        Some(Self {
            at: (
                search.from.map_or(i64::MIN, paramedic_model::Timestamp::as_micros),
                search.to.map_or(i64::MAX, paramedic_model::Timestamp::as_micros),
            ),
            seq: (
                search.after_seq.map_or(0, |seq| seq.saturating_add(1)),
                search.before_seq.map_or(i64::MAX as u64, |seq| seq.saturating_sub(1)).min(i64::MAX as u64),
            ),
            agent: search.agent.clone().filter(|_| subagents_of.is_none()),
            subagents_of,
            session: search.session.clone(),
            name: search.name.clone(),
            kind: code(&Fact::KINDS, &search.kind)?,
            source: code(&SOURCES, &search.source)?,
            level_min: search.level_min.and_then(|level| row::code_of(&LEVELS, level.as_str())).unwrap_or(0),
            text: search.text.as_deref().and_then(TextQuery::parse),
            correlation: [
                ('p', search.prompt.clone()),
                ('r', search.request.clone()),
                ('t', search.trace.clone()),
                ('u', search.user.clone()),
            ],
        })
    }

    /// By order and time alone.
    pub(super) fn may_contain(&self, partition: &Partition, summary: &Summary) -> bool {
        let (low, high) = self.seqs(partition.first_seq, summary);
        low <= high && summary.at_min <= self.at.1 && summary.at_max >= self.at.0
    }

    pub(super) fn seqs(&self, first_seq: u64, summary: &Summary) -> (u64, u64) {
        (self.seq.0.max(first_seq), self.seq.1.min(summary.last_seq))
    }

    /// `None` when the partition does not know one of the names.
    pub(super) fn words(&self, conn: &Connection) -> rusqlite::Result<Option<Words>> {
        let mut find = conn.prepare_cached("select id from words where word = ?1")?;
        let mut words = Words { agents: None, session: None, name: None };
        for (name, slot) in [(&self.session, &mut words.session), (&self.name, &mut words.name)] {
            if let Some(name) = name {
                *slot = find.query_row([name], |row| row.get(0)).optional()?;
                if slot.is_none() {
                    return Ok(None);
                }
            }
        }
        if let Some(agent) = &self.agent {
            words.agents = Some(find.query_map([agent], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?);
        } else if let Some(prefix) = &self.subagents_of {
            // '0' is the character after '/'.
            let end = format!("{}0", prefix.trim_end_matches('/'));
            let mut range = conn.prepare_cached("select id from words where word >= ?1 and word < ?2")?;
            words.agents = Some(range.query_map(params![prefix, end], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?);
        }
        Ok(if words.agents.as_ref().is_some_and(HashSet::is_empty) { None } else { Some(words) })
    }

    /// The question to the index; `None` when it has nothing to say.
    pub(super) fn index_query(&self, words: &Words) -> Option<String> {
        let mut parts = self.text.as_ref().map(TextQuery::index_terms).unwrap_or_default();
        if let Some(agents) = words.agents.as_ref().filter(|agents| agents.len() <= AGENTS_IN_QUERY_MAX) {
            let any: Vec<String> = agents.iter().map(|id| format!("\"{}\"", word_token('a', *id))).collect();
            parts.push(format!("({})", any.join(" OR ")));
        }
        for (role, id) in [('s', words.session), ('n', words.name)] {
            parts.extend(id.map(|id| format!("\"{}\"", word_token(role, id))));
        }
        parts.extend(self.kind.filter(|kind| *kind > 0).map(|kind| format!("\"{}\"", word_token('k', kind))));
        if self.level_min >= LEVEL_TOKEN_MIN {
            let any: Vec<String> = (self.level_min..=3).map(|level| format!("\"{}\"", word_token('l', level))).collect();
            parts.push(format!("({})", any.join(" OR ")));
        }
        for (role, id) in &self.correlation {
            parts.extend(id.as_ref().map(|id| format!("\"{}\"", correlation_token(*role, id))));
        }
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }

    /// The spans of indexed rows that may match by time, kind, source and level.
    pub(super) fn blocks(&self, index: &Connection, (low, high): (u64, u64)) -> Result<Vec<(u64, u64)>, Trouble> {
        if self.at == (i64::MIN, i64::MAX) && self.kind.is_none() && self.source.is_none() && self.level_min == 0 {
            return Ok(vec![(low, high)]);
        }
        let kinds = self.kind.map_or(-1, bit);
        let sources = self.source.map_or(-1, bit);
        let levels = -1i64 << self.level_min;
        let mut select = index
            .prepare_cached(
                "select first_seq, last_seq from blocks where last_seq >= ?1 and first_seq <= ?2 and at_min <= ?3 and at_max >= ?4
                 and kinds & ?5 != 0 and sources & ?6 != 0 and levels & ?7 != 0 order by first_seq",
            )
            .map_err(Trouble::Index)?;
        let mut rows = select
            .query(params![low.cast_signed(), high.cast_signed(), self.at.1, self.at.0, kinds, sources, levels])
            .map_err(Trouble::Index)?;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        while let Some(row) = rows.next().map_err(Trouble::Index)? {
            let first = row.get::<_, i64>(0).map_err(Trouble::Index)?.cast_unsigned().max(low);
            let last = row.get::<_, i64>(1).map_err(Trouble::Index)?.cast_unsigned().min(high);
            match ranges.last_mut() {
                Some(range) if range.1 + 1 == first => range.1 = last,
                _ => ranges.push((first, last)),
            }
        }
        Ok(ranges)
    }

    /// The whole truth about one row; cheap conditions first.
    pub(super) fn matches(&self, row: &Row<'_>, words: &Words, field: &mut FieldTokens) -> rusqlite::Result<bool> {
        let class = Class(row.get(2)?);
        if self.kind.is_some_and(|kind| kind != class.kind())
            || self.source.is_some_and(|source| source != class.source())
            || class.level() < self.level_min
        {
            return Ok(false);
        }
        let at: i64 = row.get(1)?;
        if at < self.at.0 || at > self.at.1 {
            return Ok(false);
        }
        if let Some(agents) = &words.agents
            && !row.get::<_, Option<i64>>(3)?.is_some_and(|id| agents.contains(&id))
        {
            return Ok(false);
        }
        if (words.session.is_some() && words.session != row.get(4)?) || (words.name.is_some() && words.name != row.get(5)?) {
            return Ok(false);
        }
        if self.correlation.iter().any(|(_, id)| id.is_some()) && !self.correlates(row::text(row, 10)?) {
            return Ok(false);
        }
        let Some(text) = &self.text else { return Ok(true) };
        Ok(text.matches(row::text(row, 7)?.unwrap_or_default(), row::text(row, 8)?, field))
    }

    fn correlates(&self, stored: Option<&str>) -> bool {
        let Some(stored) = stored.and_then(|stored| serde_json::from_str::<Correlation>(stored).ok()) else { return false };
        let found = [&stored.prompt, &stored.request, &stored.trace, &stored.user];
        self.correlation.iter().zip(found).all(|((_, wanted), found)| wanted.is_none() || wanted.as_deref() == found.as_deref())
    }
}
