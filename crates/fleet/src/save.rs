//! The fleet as bytes, for a checkpoint: what `load` reads goes on exactly where `save` stopped.
//!
//! Format 1: `PMFLEET`, the format's number in one byte, a JSON document with its length (u32), then tables as
//! little-endian numbers (curves, open calls, open tools, ids), then an xxh3 checksum (u64) over everything before it.

use paramedic_model::{Timestamp, ToolOutcome};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::agent::Agent;
use crate::calls::{Call, Grade, OpenCalls, Passed};
use crate::config::Settings;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::prices::Prices;
use crate::seen::Seen;
use crate::series::Sample;
use crate::session::Session;
use crate::tally::{Books, Models, Tally};
use crate::tools::{OpenTools, Tool};

/// The format that is written. Readers of a later version still read it; a fixture is kept for each.
pub const FORMAT: u8 = 1;
const MAGIC: &[u8; 7] = b"PMFLEET";

/// Why a checkpoint cannot be used. Every one of them is cured by replaying the stored events.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("load the fleet's checkpoint: it is not one")]
    NotACheckpoint,
    #[error("load the fleet's checkpoint: its format is {0}, this version reads {FORMAT}")]
    Format(u8),
    #[error("load the fleet's checkpoint: it is damaged ({0})")]
    Damaged(&'static str),
    #[error("load the fleet's checkpoint: its contents are not understood: {0}")]
    Contents(#[from] serde_json::Error),
    #[error("load the fleet's checkpoint: its costs were counted with other prices (of {0})")]
    OtherPrices(String),
}

#[derive(Serialize, Deserialize)]
struct Document {
    prices: u64,
    prices_as_of: String,
    models: Vec<Box<str>>,
    agents: Vec<(u64, Box<Agent>)>,
    sessions: Vec<(u64, Session)>,
    total: Tally,
    dropped: Tally,
    cells: Vec<(i32, u16, Tally)>,
    agents_dropped: u64,
    implausible: u64,
    ids_forgotten: u64,
    newest_us: i64,
    ticked_us: Option<i64>,
}

impl Fleet {
    /// Everything the fleet knows, as bytes.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut keys: Vec<u64> = self.agents.keys().copied().collect();
        keys.sort_unstable();
        let mut sessions: Vec<(u64, Session)> = self.sessions.iter().map(|(key, session)| (*key, session.clone())).collect();
        sessions.sort_unstable_by_key(|(key, _)| *key);
        let document = Document {
            prices: self.prices.fingerprint(),
            prices_as_of: self.prices.as_of().to_owned(),
            models: self.models.names(),
            agents: keys.iter().map(|key| (*key, self.agents[key].clone())).collect(),
            sessions,
            total: self.books.total,
            dropped: self.books.dropped,
            cells: self.books.cells.iter().map(|((day, model), tally)| (*day, *model, *tally)).collect(),
            agents_dropped: self.agents_dropped,
            implausible: self.implausible,
            ids_forgotten: self.seen.forgotten,
            newest_us: self.newest.as_micros(),
            ticked_us: self.ticked.map(Timestamp::as_micros),
        };
        let json = serde_json::to_vec(&document).expect("numbers, texts and lists of them are always JSON");
        let mut out = Writer(Vec::with_capacity(json.len() + 64 * self.calls.len() + 8 * self.seen.len()));
        out.0.extend_from_slice(MAGIC);
        out.0.push(FORMAT);
        out.length(json.len());
        out.0.extend_from_slice(&json);
        for (_, agent) in &document.agents {
            out.u32(agent.series.width_s);
            out.list(agent.series.samples.iter(), |out, sample| out.sample(sample));
        }
        out.list(self.calls.iter(), Writer::call);
        out.list(self.tools.iter(), |out, (id, tool)| out.tool(id, &tool));
        for generation in self.seen.generations() {
            out.list(generation.into_iter(), Writer::u64);
        }
        let checksum = xxh3_64(&out.0);
        out.u64(checksum);
        out.0
    }

    /// Reads what `save` wrote. Prices and settings are given anew; with other prices the checkpoint is refused, because
    /// its costs were counted with the old ones.
    ///
    /// # Errors
    /// When the bytes are damaged, of another format or of other prices: rebuild the fleet by replay.
    pub fn load(bytes: &[u8], prices: Prices, settings: Settings) -> Result<Self, LoadError> {
        let body = checked(bytes)?;
        let mut input = Reader(&body[MAGIC.len() + 1..]);
        let length = input.length()?;
        let document: Document = serde_json::from_slice(input.take(length)?)?;
        if document.prices != prices.fingerprint() {
            return Err(LoadError::OtherPrices(document.prices_as_of));
        }
        let mut fleet = Self::new(prices, settings);
        fleet.models = Models::new(&document.models, &fleet.prices);
        for (key, mut agent) in document.agents {
            agent.series.width_s = input.u32()?;
            agent.series.samples = input.list(Reader::sample)?;
            fleet.agents.insert(key, agent);
        }
        fleet.sessions = document.sessions.into_iter().collect();
        let cells = document.cells.into_iter().map(|(day, model, tally)| ((day, model), tally)).collect();
        fleet.books = Books { total: document.total, cells, dropped: document.dropped };
        fleet.agents_dropped = document.agents_dropped;
        fleet.implausible = document.implausible;
        fleet.newest = Timestamp::from_micros(document.newest_us);
        fleet.ticked = document.ticked_us.map(Timestamp::from_micros);
        fleet.calls = OpenCalls::restore(input.list(Reader::call)?);
        fleet.tools = OpenTools::restore(input.list(Reader::tool)?);
        let generations = [input.list(Reader::u64)?, input.list(Reader::u64)?];
        fleet.seen = Seen::restore(settings.ids_max, generations, document.ids_forgotten);
        fleet.metrics = Metrics::default();
        Ok(fleet)
    }
}

/// The bytes without the checksum, when everything about them is right.
fn checked(bytes: &[u8]) -> Result<&[u8], LoadError> {
    if bytes.len() < MAGIC.len() + 1 || !bytes.starts_with(MAGIC) {
        return Err(LoadError::NotACheckpoint);
    }
    if bytes[MAGIC.len()] != FORMAT {
        return Err(LoadError::Format(bytes[MAGIC.len()]));
    }
    let (body, checksum) = bytes.split_last_chunk::<8>().ok_or(LoadError::Damaged("it is cut off"))?;
    if body.len() < MAGIC.len() + 1 || xxh3_64(body) != u64::from_le_bytes(*checksum) {
        return Err(LoadError::Damaged("its checksum is wrong"));
    }
    Ok(body)
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    #[expect(clippy::cast_possible_truncation, reason = "every table has a limit far below")]
    fn length(&mut self, length: usize) {
        self.u32(length as u32);
    }

    fn list<T>(&mut self, items: impl Iterator<Item = T>, write: impl Fn(&mut Self, T)) {
        let start = self.0.len();
        self.u32(0);
        let mut count = 0u32;
        for item in items {
            write(self, item);
            count += 1;
        }
        self.0[start..start + 4].copy_from_slice(&count.to_le_bytes());
    }

    fn sample(&mut self, sample: &Sample) {
        for number in [sample.at_s, sample.context, sample.calls, sample.errors] {
            self.u32(number);
        }
        self.u64(sample.cost);
    }

    fn call(&mut self, call: &Call) {
        for number in [call.message, call.request, call.agent, call.session, call.reported.unwrap_or(u64::MAX)] {
            self.u64(number);
        }
        for tokens in call.tokens {
            self.u32(tokens);
        }
        self.u32(call.day.cast_unsigned());
        self.u32(u32::from(call.model));
        // Both in one byte: readers before the gateway refuse what they would misread, and rebuild.
        self.0.extend_from_slice(&[call.grade as u8 | (call.passed as u8) << 4, u8::from(call.exact)]);
    }

    fn tool(&mut self, id: u64, tool: &Tool) {
        for number in [id, tool.agent, tool.session] {
            self.u64(number);
        }
        let flags = u8::from(tool.has_arguments) | u8::from(tool.has_duration) << 1 | u8::from(tool.exact) << 2;
        self.0.extend_from_slice(&[tool.called_by, tool.answered_by, flags, outcome_number(tool.outcome)]);
    }
}

const OUTCOMES: [ToolOutcome; 5] =
    [ToolOutcome::Success, ToolOutcome::Error, ToolOutcome::Rejected, ToolOutcome::Interrupted, ToolOutcome::SiblingError];
const GRADES: [Grade; 4] = [Grade::Metric, Grade::Span, Grade::Otlp, Grade::Record];
const PASSED: [Passed; 3] = [Passed::No, Passed::Yes, Passed::Rerouted];

fn outcome_number(outcome: Option<ToolOutcome>) -> u8 {
    let place = OUTCOMES.iter().position(|known| Some(*known) == outcome);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], LoadError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(LoadError::Damaged("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(LoadError::Damaged("it is cut off"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, LoadError> {
        self.u32().map(|length| length as usize)
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, LoadError>) -> Result<Vec<T>, LoadError> {
        let count = self.length()?;
        // Each item takes at least one byte: a damaged count cannot ask for more memory than there is input.
        let mut items = Vec::with_capacity(count.min(self.0.len() / 8 + 1));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn sample(&mut self) -> Result<Sample, LoadError> {
        let (at_s, context, calls, errors) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        Ok(Sample { at_s, context, calls, errors, cost: self.u64()? })
    }

    fn call(&mut self) -> Result<Call, LoadError> {
        let (message, request, agent, session) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        let reported = Some(self.u64()?).filter(|cost| *cost != u64::MAX);
        let tokens = [self.u32()?, self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let day = self.u32()?.cast_signed();
        let model = u16::try_from(self.u32()?).map_err(|_| LoadError::Damaged("a model's number is too large"))?;
        let [grade, exact] = self.array()?;
        let passed = *PASSED.get(usize::from(grade >> 4)).ok_or(LoadError::Damaged("a grade is unknown"))?;
        let grade = *GRADES.get(usize::from(grade & 15)).ok_or(LoadError::Damaged("a grade is unknown"))?;
        Ok(Call { message, request, agent, session, tokens, day, model, grade, exact: exact != 0, reported, passed })
    }

    fn tool(&mut self) -> Result<(u64, Tool), LoadError> {
        let (id, agent, session) = (self.u64()?, self.u64()?, self.u64()?);
        let [called_by, answered_by, flags, outcome] = self.array()?;
        let outcome = OUTCOMES.get(usize::from(outcome)).copied();
        let (has_arguments, has_duration, exact) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Ok((id, Tool { agent, session, called_by, answered_by, has_arguments, has_duration, exact, outcome }))
    }
}
