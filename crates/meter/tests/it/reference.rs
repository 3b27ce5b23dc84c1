//! The reference for people.

/// `PARAMEDIC_WRITE_DOCS=1` writes it.
#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = paramedic_meter::reference::reference();
    if std::env::var_os("PARAMEDIC_WRITE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "docs/metrics.md is stale: run this test with PARAMEDIC_WRITE_DOCS=1");
}
