//! Bodies that want to do harm: nothing panics, nothing grows, and every answer is one a sender can act on.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::bodies::{Bench, START, V1, V2, request, series, snappy};
use crate::bodies::{body, v2};

fn check(headers: paramedic_remote::Headers<'_>, body: &[u8]) {
    let bench = Bench::usual();
    let answer = bench.send(headers, body);
    assert!([204, 400, 413].contains(&answer.status), "{} {}", answer.status, answer.body);
    assert!(answer.body.len() <= 1_100);
}

#[test]
fn bombs_and_lies_are_refused() {
    let bench = Bench::usual();
    // A block that claims to grow to 4 GiB, and one that really grows to 100 MiB.
    let bomb = snappy(&vec![0u8; 100 * 1024 * 1024]);
    for (body, status) in [(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00][..], 413), (&bomb, 413), (&[0xff, 0xff, 0xff, 0x07, 0x00], 400)] {
        assert_eq!(bench.send(V1, body).status, status);
    }
    // Two bytes for each series, symbol or sample.
    let series_of_nothing = snappy(&[0x0a, 0x00].repeat(1_000_000));
    let symbols_of_nothing = snappy(&[0x22, 0x00].repeat(2_000_000));
    let mut samples_of_nothing = vec![0x0a];
    let inner = [0x12, 0x00].repeat(1_000_000);
    let mut length = inner.len();
    while length >= 0x80 {
        samples_of_nothing.push(length as u8 | 0x80);
        length >>= 7;
    }
    samples_of_nothing.push(length as u8);
    samples_of_nothing.extend(inner);
    for (headers, body) in [(V1, series_of_nothing), (V2, symbols_of_nothing), (V1, snappy(&samples_of_nothing))] {
        assert_eq!(bench.send(headers, &body).status, 413);
    }
    assert!(bench.floats().is_empty());
}

#[test]
fn every_cut_of_a_good_body_is_survived() {
    let message = {
        let good = request(vec![series(&[("__name__", "up"), ("job", "a")], &[(START, 1.0), (START + 1, 2.0)])]);
        snap::raw::Decoder::new().decompress_vec(&good).unwrap()
    };
    for end in 0..message.len() {
        let bench = Bench::usual();
        let answer = bench.send(V1, &snappy(&message[..end]));
        // Only nothing at all is a whole message.
        assert_eq!(answer.status, if end == 0 { 204 } else { 400 }, "{end}: {}", answer.body);
        assert!(bench.floats().is_empty());
    }
}

#[test]
fn a_huge_label_is_a_limit_and_not_a_crash() {
    let long = "x".repeat(10_000_000);
    check(V1, &request(vec![series(&[("__name__", &long)], &[(START, 1.0)])]));
    let request = v2::Request {
        symbols: vec![String::new(), "__name__".into(), "a".into()],
        timeseries: vec![v2::TimeSeries { labels_refs: [1, 2].repeat(100_000), ..Default::default() }],
    };
    check(V2, &body(&request));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300), is_v2: bool, is_block: bool) {
        let body = if is_block { bytes } else { snappy(&bytes) };
        check(if is_v2 { V2 } else { V1 }, &body);
    }

    #[test]
    fn flipped_bytes(at in any::<prop::sample::Index>(), value: u8, is_v2: bool) {
        let good = if is_v2 {
            let symbols = ["", "__name__", "up", "job", "a"].map(str::to_owned).to_vec();
            let sample = crate::bodies::v1::Sample { value: 1.0, timestamp: START };
            let metadata = Some(v2::Metadata { kind: 1, help_ref: 2, unit_ref: 3 });
            body(&v2::Request { symbols, timeseries: vec![v2::TimeSeries { labels_refs: vec![1, 2, 3, 4], samples: vec![sample], metadata, ..Default::default() }] })
        } else {
            request(vec![series(&[("__name__", "up"), ("job", "a")], &[(START, 1.0)])])
        };
        let mut message = snap::raw::Decoder::new().decompress_vec(&good).unwrap();
        let at = at.index(message.len());
        message[at] = value;
        check(if is_v2 { V2 } else { V1 }, &snappy(&message));
    }
}
