//! Runs files in the PromQL test language: `promql_test FILE...`.

use std::process::ExitCode;

use paramedic_promql::run_test_file;

fn main() -> ExitCode {
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) => {
                eprintln!("failed to read {path}: {err}");
                return ExitCode::FAILURE;
            }
        };
        let report = run_test_file(&text, &path);
        for failure in &report.failures {
            println!("{path}:{}: {}\n    {}", failure.line, failure.expr, failure.message);
        }
        for part in &report.unsupported_parts {
            println!("{path}:{}: not supported: {} {}", part.line, part.message, part.expr);
        }
        println!("{path}: {} passed, {} failed, {} unsupported", report.passed, report.failed, report.unsupported);
        passed += report.passed;
        failed += report.failed;
        unsupported += report.unsupported;
    }
    println!("total: {passed} passed, {failed} failed, {unsupported} unsupported");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
