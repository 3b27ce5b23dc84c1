//! Any bytes as what an exporter shows, in both formats.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use paramedic_collect::exposition::{Format, Sample, Visitor, parse};

struct Count(u64);

impl<'a> Visitor<'a> for Count {
    fn sample(&mut self, sample: &Sample<'_, 'a>) -> ControlFlow<()> {
        // What is handed on must be readable.
        for (name, value) in sample.series.labels {
            let _ = (name.text(), value.text());
        }
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

fuzz_target!(|data: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut count = Count(0);
        if let Ok(counts) = parse(data, format, &mut count) {
            assert_eq!(counts.samples, count.0);
        }
    }
});
