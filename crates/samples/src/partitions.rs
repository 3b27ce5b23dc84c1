//! All partitions: which file a time falls into, and which files have to go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use paramedic_model::Timestamp;

use crate::error::SamplesError;
use crate::head::{read, write};
use crate::metrics::Metrics;
use crate::partition::{Partition, Row, looks_intact};

pub(crate) struct Partitions {
    dir: PathBuf,
    /// Milliseconds that a new partition is long.
    length: i64,
    /// By the time at which they begin.
    all: RwLock<BTreeMap<i64, Arc<Partition>>>,
}

/// `samples-2026-01-14T000000-24h.sqlite`: when it begins and how long it is.
fn file_name(from: i64, length: i64) -> String {
    let at = Timestamp::from_millis(from);
    format!("samples-{}T{}-{}h.sqlite", at.date(), at.time_of_day().replace(':', ""), length / 3_600_000)
}

fn read_name(name: &str) -> Option<(i64, i64)> {
    let (at, hours) = name.strip_prefix("samples-")?.strip_suffix("h.sqlite")?.rsplit_once('-')?;
    let (date, time) = at.rsplit_once('T')?;
    if !time.is_ascii() || time.len() != 6 {
        return None;
    }
    let text = format!("{date}T{}:{}:{}Z", &time[..2], &time[2..4], &time[4..]);
    let from = Timestamp::parse(&text)?.as_millis();
    Some((from, from.checked_add(hours.parse::<i64>().ok()?.checked_mul(3_600_000)?)?))
}

impl Partitions {
    /// Opens every partition in a folder; damaged ones are set aside.
    pub(crate) fn open(dir: &Path, length: i64, metrics: &Metrics) -> Result<Self, SamplesError> {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(|err| SamplesError::io(dir, err))? {
            let path = entry.map_err(|err| SamplesError::io(dir, err))?.path();
            let Some((from, until)) = path.file_name().and_then(|name| name.to_str()).and_then(read_name) else { continue };
            match Partition::open(&path, from, until) {
                Ok(partition) => {
                    all.insert(from, Arc::new(partition));
                }
                Err(SamplesError::Damaged { .. } | SamplesError::Sqlite { .. }) if !looks_intact(&path) => {
                    let aside = path.with_extension("sqlite.damaged");
                    std::fs::rename(&path, &aside).map_err(|err| SamplesError::io(&path, err))?;
                    tracing::error!(file = %aside.display(), "a partition of samples is damaged and was set aside");
                    metrics.damaged_partitions.inc();
                }
                Err(err) => return Err(err),
            }
        }
        Ok(Self { dir: dir.to_owned(), length, all: RwLock::new(all) })
    }

    pub(crate) fn list(&self) -> Vec<Arc<Partition>> {
        read(&self.all).values().cloned().collect()
    }

    /// The partitions that may have samples between two times.
    pub(crate) fn overlapping(&self, from: i64, to: i64) -> Vec<Arc<Partition>> {
        read(&self.all).values().filter(|partition| partition.overlaps(from, to)).cloned().collect()
    }

    /// The partition that a block belongs to. The lengths of older files may differ from what is set now.
    fn for_block(&self, start: i64) -> Result<Arc<Partition>, SamplesError> {
        let mut all = write(&self.all);
        let before = all.range(..=start).next_back().map(|(_, partition)| Arc::clone(partition));
        if let Some(partition) = before.as_ref().filter(|partition| partition.until > start) {
            return Ok(Arc::clone(partition));
        }
        let from = before.map_or(i64::MIN, |partition| partition.until).max(start.div_euclid(self.length) * self.length);
        let next = all.range(start..).next().map_or(i64::MAX, |(next, _)| *next);
        let until = (start.div_euclid(self.length) + 1).saturating_mul(self.length).min(next);
        let path = self.dir.join(file_name(from, until - from));
        let partition = Arc::new(Partition::open(&path, from, until)?);
        all.insert(from, Arc::clone(&partition));
        Ok(partition)
    }

    /// Makes rows durable, each in its partition.
    pub(crate) fn store(&self, rows: Vec<Row>) -> Result<(), SamplesError> {
        let mut parts: BTreeMap<i64, (Arc<Partition>, Vec<Row>)> = BTreeMap::new();
        for row in rows {
            let known = parts.values().find(|(partition, _)| partition.from <= row.start && row.start < partition.until);
            let partition = match known {
                Some((partition, _)) => Arc::clone(partition),
                None => self.for_block(row.start)?,
            };
            parts.entry(partition.from).or_insert_with(|| (partition, Vec::new())).1.push(row);
        }
        for (partition, rows) in parts.into_values() {
            partition.store(&rows)?;
        }
        Ok(())
    }

    /// Keeps few indexes in memory: those of the newest partitions.
    pub(crate) fn trim_indexes(&self, keep: usize) {
        let loaded: Vec<_> = self.list().into_iter().filter(|partition| partition.has_index()).collect();
        let surplus = loaded.len().saturating_sub(keep);
        loaded.iter().take(surplus).for_each(|partition| partition.forget_index());
    }

    /// Drops partitions that end before `oldest`, then the oldest ones until the rest fits; the newest one stays.
    pub(crate) fn retain(&self, oldest: i64, bytes_max: u64, metrics: &Metrics) -> Result<u64, SamplesError> {
        let all = self.list();
        let sizes: Vec<u64> = all.iter().map(|partition| partition.bytes()).collect();
        let mut total: u64 = sizes.iter().sum();
        let newest = all.last().map(|partition| partition.from);
        let mut dropped = 0;
        for (partition, bytes) in all.iter().zip(sizes) {
            let too_old = partition.until <= oldest;
            if !too_old && (total <= bytes_max || Some(partition.from) == newest) {
                break;
            }
            write(&self.all).remove(&partition.from);
            let samples = partition.delete()?;
            tracing::info!(file = %partition.path.display(), samples, too_old, "a partition of samples left");
            metrics.dropped_samples.inc_by(samples);
            metrics.dropped_partitions.inc();
            total -= bytes;
            dropped += 1;
        }
        metrics.partitions.set(read(&self.all).len() as i64);
        metrics.partition_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_and_how_long() {
        let from = Timestamp::parse("2026-01-14T06:00:00Z").unwrap().as_millis();
        let name = file_name(from, 6 * 3_600_000);
        assert_eq!(name, "samples-2026-01-14T060000-6h.sqlite");
        assert_eq!(read_name(&name), Some((from, from + 6 * 3_600_000)));
        for other in ["samples-.sqlite", "samples-2026-01-14T06é000-6h.sqlite", "events-1.sqlite", "samples-x-1h.sqlite"] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }
}
