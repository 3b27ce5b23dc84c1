//! Files in the test language: our own, and the public ones where they are at hand.

use std::path::{Path, PathBuf};

use paramedic_promql::run_test_file;

/// Runs every `.test` file of a folder; gives how many evaluations passed.
fn run_folder(folder: &Path) -> usize {
    let mut passed = 0;
    let mut failures = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|ext| ext == "test")) {
        let report = run_test_file(&std::fs::read_to_string(path).unwrap(), &path.display().to_string());
        passed += report.passed;
        for failure in report.failures.iter().chain(&report.unsupported_parts) {
            failures.push(format!("{}:{}: {}\n    {}", report.name, failure.line, failure.expr, failure.message));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    passed
}

#[test]
fn our_own_files_pass() {
    assert!(run_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts")) > 100);
}

#[test]
fn the_public_files_pass() {
    let shared = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let folder = shared.join("promql");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    assert!(run_folder(&folder) > 1_000);
}

#[test]
fn a_wrong_expectation_is_a_failure() {
    let wrong = "load 1m\n  a 1 2\n\neval instant at 1m a\n  a 3\n\neval instant at 1m a + 1\n  {} 3\n\neval instant at 1m a\n  expect fail\n\n\
                 nonsense\n\neval instant at 1m info(a)\n  a 2\n";
    let report = run_test_file(wrong, "wrong");
    assert_eq!((report.passed, report.failed, report.unsupported), (1, 3, 1));
    assert_eq!(report.failures[0].line, 4);
}
