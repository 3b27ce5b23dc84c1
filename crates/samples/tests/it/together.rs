//! Appends, selections and upkeep at the same time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use paramedic_promql::{Labels, Matcher, Storage};
use paramedic_samples::Settings;

use crate::story::{START, all, append, open, quiet, sample};

const STEP: i64 = 30_000;
const SERIES: usize = 30;

#[test]
fn a_selection_never_misses_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("folder");
    let store =
        open(dir.path(), Settings { head_s: 600, segment_bytes_max: 100_000, checkpoint_bytes: 300_000, partition_h: 12, ..quiet() });
    let labels: Vec<Labels> = (0..SERIES).map(|i| Labels::from_pairs(&[("__name__", "m"), ("i", &i.to_string())])).collect();
    let acknowledged = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..4_000 {
                let batch: Vec<_> = labels.iter().map(|labels| sample(labels, START + number * STEP, number as f64)).collect();
                assert_eq!(store.append(&batch).expect("appends").appended as usize, SERIES);
                acknowledged.store(number + 1, Ordering::SeqCst);
                // Series come and go beside the ones that are counted.
                append(&store, &Labels::from_pairs(&[("__name__", "short"), ("n", &number.to_string())]), &[(START + number * STEP, 1.0)]);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.upkeep().expect("keeps up");
            }
        });
        let mut rounds = 0;
        while !done.load(Ordering::SeqCst) {
            let least = acknowledged.load(Ordering::SeqCst);
            let found = store.select(&[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX).expect("selects");
            assert_eq!(found.len(), if least == 0 { found.len() } else { SERIES });
            for series in &found {
                let times = &series.samples.times;
                assert!(times.len() as i64 >= least, "{} of {least}", times.len());
                assert!(times.iter().enumerate().all(|(i, time)| *time == START + i as i64 * STEP), "in order, none missing, none twice");
            }
            // One after the other, while chunks leave the memory under way.
            let (least, mut walked) = (acknowledged.load(Ordering::SeqCst), 0);
            let each = &mut |labels: &Labels, samples: &paramedic_promql::Samples| {
                assert!(samples.times.len() as i64 >= least, "{labels}: {} of {least}", samples.times.len());
                let in_order = samples.times.iter().enumerate().all(|(i, time)| *time == START + i as i64 * STEP);
                assert!(in_order, "in order, none missing, none twice");
                walked += 1;
                std::ops::ControlFlow::Continue(())
            };
            let matchers = [Matcher::equal("__name__", "m")];
            Storage::walk(&store, &matchers, i64::MIN, i64::MAX, paramedic_promql::Need::Range, each).expect("walks");
            assert_eq!(walked, if least == 0 { walked } else { SERIES });
            rounds += 1;
        }
        assert!(rounds > 3, "there was something to see");
    });
    assert!(
        store.metrics().spilled_chunks.get() > 0 && store.metrics().swapped_chunks.get() > 0 && store.metrics().removed_series.get() > 0
    );
    assert!(store.stats().series < 1_000, "{}", store.stats().series);
}

/// Chunks on the disk are read, amended, saved and moved on like those in memory.
#[test]
fn complete_chunks_leave_the_memory_and_nobody_notices() {
    let dir = tempfile::tempdir().expect("folder");
    let settings = Settings { head_s: 36_000, out_of_order_window_s: 36_000, ..quiet() };
    let store = open(dir.path(), settings.clone());
    let labels = Labels::from_pairs(&[("__name__", "m")]);
    let samples: Vec<(i64, f64)> = (0..1_200).map(|i| (START + i * STEP, (i * i % 977) as f64 / 8.0)).collect();
    append(&store, &labels, &samples);
    let before = all(&store);
    let in_memory = store.stats().head_sample_bytes;
    store.upkeep().expect("keeps up");
    assert!(store.metrics().swapped_chunks.get() >= 8 && store.metrics().spilled_chunks.get() == 0);
    assert!(store.stats().head_sample_bytes < in_memory / 2, "{} of {in_memory}", store.stats().head_sample_bytes);
    assert_eq!(all(&store), before);
    // Late, twice, contradicted: the chunk on the disk is asked.
    let report = append(&store, &labels, &[(START + 15_000, 7.0), (START, 0.0), (START, 1.0)]);
    assert_eq!((report.late, report.duplicates, report.conflicts), (1, 1, 1));
    let amended = all(&store);
    assert_eq!(amended[0].1.len(), before[0].1.len() + 1);
    store.upkeep().expect("keeps up");
    store.checkpoint().expect("saves");
    assert_eq!(all(&store), amended);
    drop(store);
    let store = open(dir.path(), Settings { head_s: 60, ..settings });
    assert_eq!(all(&store), amended);
    store.upkeep().expect("keeps up");
    assert!(store.metrics().spilled_chunks.get() > 0);
    assert_eq!(all(&store), amended);
    assert!(std::fs::read_dir(dir.path()).expect("lists").all(|file| file.expect("a file").file_name() != "swap.tmp"));
}
