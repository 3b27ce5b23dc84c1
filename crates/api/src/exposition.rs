//! `/metrics` in two formats: OpenMetrics 1.0 as it is encoded, and the text format 0.0.4 made of it.

use axum::http::{HeaderMap, header};

pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the caller names OpenMetrics among what it takes, and does not weigh it zero.
pub(crate) fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some("application/openmetrics-text") && !parts.any(|part| part == "q=0" || part == "q=0.0")
    })
}

/// The same in the text format: there a counter's family is named like its samples, an info is a gauge, and there are no units and
/// no end.
pub(crate) fn text_of(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            help = told.split_once(' ');
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').unwrap_or((told, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_like_their_samples() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\n# UNIT a_b b\na_b_total{x=\"1 # 2\"} 3\n# HELP build About.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# TYPE g gauge\ng 2\n# TYPE u unknown\nu 1\n# EOF\n";
        let expect = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"1 # 2\"} 3\n# HELP build_info About.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n# TYPE g gauge\ng 2\n# TYPE u untyped\nu 1\n";
        assert_eq!(text_of(open), expect);
    }

    #[test]
    fn whoever_names_it_gets_open_metrics() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_open_metrics(&headers)
        };
        assert!(wants("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"));
        assert!(!wants("text/plain;version=0.0.4"));
        assert!(!wants("application/openmetrics-text;q=0, text/plain"));
        assert!(!wants("*/*"));
    }
}
