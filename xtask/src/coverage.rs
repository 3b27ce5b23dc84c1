//! docs/coverage.md: is every row there once, and does every proof that it names exist?

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::{paths, tidy};

/// The source documents name so many things.
const ROWS: u32 = 304;

pub(crate) fn run() -> Result<()> {
    let (rows, faults) = check()?;
    let open = rows.iter().filter(|row| row.proofs.is_empty()).count();
    println!("coverage: {} of {ROWS} rows are proven, {open} are open", rows.len() - open);
    for fault in &faults {
        println!("broken {fault}");
    }
    if !faults.is_empty() {
        bail!("docs/coverage.md is wrong in {} places", faults.len());
    }
    Ok(())
}

struct Row {
    number: u32,
    /// Empty while the row is open.
    proofs: Vec<Proof>,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Test(String),
    Bench(String),
    Drill(String),
}

fn check() -> Result<(Vec<Row>, Vec<String>)> {
    let root = paths::workspace();
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("failed to read {file}"));
    let (rows, mut faults) = parse(&read("docs/coverage.md")?);
    faults.extend(missing_numbers(&rows));

    let mut tests = BTreeSet::new();
    for file in tidy::rust_files(&root)? {
        tests.extend(test_names(&fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?));
    }
    let benchmarks = read("docs/benchmarks.md").unwrap_or_default();
    for row in &rows {
        for proof in &row.proofs {
            let exists = match proof {
                Proof::Test(name) => tests.contains(name.as_str()),
                Proof::Bench(name) => benchmarks.contains(&format!("`{name}`")),
                Proof::Drill(name) => root.join("drills").join(format!("{name}.md")).is_file(),
            };
            if !exists {
                faults.push(format!("row {}: {proof:?} does not exist", row.number));
            }
        }
    }
    Ok((rows, faults))
}

fn parse(text: &str) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [number, what, proof] = cells[..] else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        if what.is_empty() {
            faults.push(format!("row {number}: says nothing"));
        }
        match parse_proofs(proof) {
            Ok(proofs) => rows.push(Row { number, proofs }),
            Err(word) => faults.push(format!("row {number}: `{word}` is not a proof")),
        }
    }
    (rows, faults)
}

fn parse_proofs(cell: &str) -> Result<Vec<Proof>, String> {
    if cell == "open" {
        return Ok(Vec::new());
    }
    let proof = |word: &str| {
        let name = word.trim();
        if let Some(bench) = name.strip_prefix("bench:") {
            Ok(Proof::Bench(bench.to_owned()))
        } else if let Some(drill) = name.strip_prefix("drill:") {
            Ok(Proof::Drill(drill.to_owned()))
        } else if let Some(test) = name.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            Ok(Proof::Test(test.to_owned()))
        } else {
            Err(name.to_owned())
        }
    };
    cell.split(',').map(proof).collect()
}

fn missing_numbers(rows: &[Row]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut faults: Vec<String> = rows
        .iter()
        .filter(|row| !seen.insert(row.number) || row.number == 0 || row.number > ROWS)
        .map(|row| format!("row {}: twice, or not one of 1 to {ROWS}", row.number))
        .collect();
    faults.extend((1..=ROWS).filter(|number| !seen.contains(number)).map(|number| format!("row {number}: missing")));
    faults
}

/// Names of functions that stand under a test attribute.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_coverage_table_is_there_and_every_proof_exists() {
        let (_, faults) = check().unwrap();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn a_proof_is_open_or_named() {
        assert_eq!(parse_proofs("open"), Ok(vec![]));
        assert_eq!(parse_proofs("`a_b`, bench:otlp"), Ok(vec![Proof::Test("a_b".into()), Proof::Bench("otlp".into())]));
        assert_eq!(parse_proofs("surely"), Err("surely".into()));
    }

    #[test]
    fn a_row_that_is_missing_or_doubled_is_named() {
        let (rows, faults) = parse("| 1 | a | open |\n| 1 | b | open |\n| 305 | c | open |\n| 2 |  | open |\n");
        assert_eq!(faults, ["row 2: says nothing"]);
        let faults = missing_numbers(&rows);
        assert_eq!(faults.len(), 2 + 302, "{:?}", &faults[..3]);
    }

    #[test]
    fn only_functions_under_a_test_attribute_are_proofs() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(start_paused = true)]\nasync fn three() {}\n";
        assert_eq!(test_names(text), ["one", "three"]);
    }
}
