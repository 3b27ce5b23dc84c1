//! docs/coverage.md: is every row of both tables there once, and does every proof that they name exist?

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::{paths, tidy};

/// The source documents name so many things.
const ROWS: u32 = 304;
/// And their programs break so many of their promises.
const PROMISES: u32 = 33;
/// The second table begins here.
const PROMISES_HEADING: &str = "## Promises that others break";
/// How a row ends whose proof shows a part of it; what stands before says what is missing.
const PART_ENDING: &str = "still open)";

pub(crate) fn run() -> Result<()> {
    let (tables, faults) = check()?;
    for table in &tables {
        let open = table.rows.iter().filter(|row| row.proofs.is_empty()).count();
        let partly = table.rows.iter().filter(|row| row.is_part).count();
        let proven = table.rows.len() - open - partly;
        println!("coverage: of {} {}, {proven} are proven, {partly} in part, {open} are open", table.count, table.name);
    }
    for fault in &faults {
        println!("broken {fault}");
    }
    if !faults.is_empty() {
        bail!("docs/coverage.md is wrong in {} places", faults.len());
    }
    Ok(())
}

struct Table {
    name: &'static str,
    count: u32,
    rows: Vec<Row>,
}

struct Row {
    number: u32,
    /// Only a part of the row is shown by its proofs.
    is_part: bool,
    /// Empty while the row is open.
    proofs: Vec<Proof>,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Test(String),
    Bench(String),
    Drill(String),
}

fn check() -> Result<([Table; 2], Vec<String>)> {
    let root = paths::workspace();
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("failed to read {file}"));
    let text = read("docs/coverage.md")?;
    let (named, promised) = text.split_once(PROMISES_HEADING).unwrap_or((&text, ""));
    let mut faults = Vec::new();
    let tables = [("named things", ROWS, named), ("promises", PROMISES, promised)].map(|(name, count, text)| {
        let (rows, wrong) = parse(text);
        faults.extend(wrong.into_iter().chain(missing_numbers(&rows, count)).map(|fault| format!("{name}: {fault}")));
        Table { name, count, rows }
    });

    let mut tests = BTreeSet::new();
    for file in tidy::rust_files(&root)? {
        tests.extend(test_names(&fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?));
    }
    let benchmarks = read("docs/benchmarks.md").unwrap_or_default();
    for (table, row) in tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row))) {
        for proof in &row.proofs {
            let exists = match proof {
                Proof::Test(name) => tests.contains(name.as_str()),
                Proof::Bench(name) => benchmarks.contains(&format!("`{name}`")),
                Proof::Drill(name) => root.join("drills").join(format!("{name}.md")).is_file(),
            };
            if !exists {
                faults.push(format!("{}: row {}: {proof:?} does not exist", table.name, row.number));
            }
        }
    }
    Ok((tables, faults))
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
        let is_part = what.ends_with(PART_ENDING);
        match parse_proofs(proof) {
            Ok(proofs) if is_part && proofs.is_empty() => {
                faults.push(format!("row {number}: says what is still open, and names no proof of the rest"));
                rows.push(Row { number, is_part: false, proofs });
            }
            Ok(proofs) => rows.push(Row { number, is_part, proofs }),
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

fn missing_numbers(rows: &[Row], count: u32) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut faults: Vec<String> = rows
        .iter()
        .filter(|row| !seen.insert(row.number) || row.number == 0 || row.number > count)
        .map(|row| format!("row {}: twice, or not one of 1 to {count}", row.number))
        .collect();
    faults.extend((1..=count).filter(|number| !seen.contains(number)).map(|number| format!("row {number}: missing")));
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
        let faults = missing_numbers(&rows, ROWS);
        assert_eq!(faults.len(), 2 + 302, "{:?}", &faults[..3]);
    }

    #[test]
    fn a_row_that_says_what_is_missing_is_proven_in_part() {
        let (rows, faults) = parse("| 1 | a (b still open) | `t` |\n| 2 | a | `t` |\n| 3 | a (b still open) | open |\n");
        assert_eq!(rows.iter().map(|row| row.is_part).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(faults, ["row 3: says what is still open, and names no proof of the rest"]);
    }

    #[test]
    fn only_functions_under_a_test_attribute_are_proofs() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(start_paused = true)]\nasync fn three() {}\n";
        assert_eq!(test_names(text), ["one", "three"]);
    }
}
