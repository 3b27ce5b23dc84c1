//! Names of metrics and labels: since Prometheus 3, any text that is not empty.

/// Whether a text may be the name of a metric.
pub(crate) fn is_metric_name(name: &str) -> bool {
    !name.is_empty()
}

/// Whether a text may be the name of a label.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty()
}

/// Whether a name needs no quotes, as every name before Prometheus 3.
pub(crate) fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
