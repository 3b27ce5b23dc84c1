//! Appends, selections and upkeep at the same time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use paramedic_promql::{Labels, Matcher, Storage};
use paramedic_samples::Settings;

use crate::story::{START, append, open, quiet, sample};

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
    assert!(store.metrics().spilled_chunks.get() > 0 && store.metrics().removed_series.get() > 0);
    assert!(store.stats().series < 1_000, "{}", store.stats().series);
}
