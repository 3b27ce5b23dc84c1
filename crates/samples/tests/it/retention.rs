//! Old partitions leave whole, by age and by size.

use paramedic_model::{Clock, Timestamp};
use paramedic_promql::Labels;
use paramedic_samples::{Samples, Settings};

use crate::story::{HOUR, START, all, append, clock_at, quiet};

#[test]
fn partitions_leave_by_age() {
    let dir = tempfile::tempdir().expect("folder");
    let clock = clock_at(START);
    let settings = Settings { partition_h: 2, retention_h: 10, ..quiet() };
    let store = Samples::open(dir.path(), settings, clock.clone()).expect("opens");
    let m = Labels::from_pairs(&[("__name__", "m")]);
    for hour in 0..24 {
        clock.set(Timestamp::from_millis(START + hour * HOUR));
        append(&store, &m, &[(START + hour * HOUR, hour as f64)]);
        store.upkeep().expect("keeps up");
    }
    let oldest = all(&store)[0].1[0].0;
    assert_eq!(oldest, START + 12 * HOUR, "partitions of two hours that ended more than ten hours ago are gone");
    assert_eq!((store.metrics().dropped_partitions.get(), store.metrics().dropped_samples.get()), (6, 12));
    // What is older than that is not taken in again either.
    assert_eq!(append(&store, &Labels::from_pairs(&[("__name__", "n")]), &[(START, 1.0)]).too_old, 1);
    assert_eq!(clock.now().as_millis(), START + 23 * HOUR);
}

#[test]
fn partitions_leave_by_size_and_the_newest_stays() {
    let dir = tempfile::tempdir().expect("folder");
    let settings = Settings { partition_h: 2, bytes_max: 1, ..quiet() };
    let store = Samples::open(dir.path(), settings, clock_at(START)).expect("opens");
    let m = Labels::from_pairs(&[("__name__", "m")]);
    for hour in 0..12 {
        append(&store, &m, &[(START + hour * HOUR, hour as f64)]);
    }
    store.upkeep().expect("keeps up");
    assert_eq!(store.stats().partitions, 1);
    assert_eq!(all(&store)[0].1[0].0, START + 8 * HOUR);
}

#[test]
fn the_future_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Samples::open(dir.path(), Settings { future_max_s: 600, ..quiet() }, clock_at(START)).expect("opens");
    let m = Labels::from_pairs(&[("__name__", "m")]);
    let report = append(&store, &m, &[(START + 600_000, 1.0), (START + 600_001, 1.0), (i64::MAX, 1.0), (i64::MIN, 1.0)]);
    assert_eq!((report.appended, report.in_future, report.too_old), (1, 2, 1));
}
