//! Prints what a runbook file says, one line for each command: `cargo run -p paramedic-runbook --example show FILE...`

fn main() {
    for file in std::env::args().skip(1) {
        let text = std::fs::read(&file).unwrap_or_default();
        let document = paramedic_runbook::parse(&String::from_utf8_lossy(&text), &file);
        let mut lines = 0;
        for runbook in &document.runbooks {
            println!(
                "## {} [{}] alerts {:?} checks {} causes {}",
                runbook.title,
                runbook.id,
                runbook.alerts,
                runbook.checks.len(),
                runbook.causes.len()
            );
            for cause in &runbook.causes {
                println!("   cause {} {:?}", cause.title, cause.patterns);
            }
            for step in &runbook.steps {
                println!("   {:?} step {} ({})", step.section, step.title, step.name);
                for command in &step.commands {
                    lines += 1;
                    let v = &command.verdict;
                    println!(
                        "      {}:{:?} {} {}{}{:?}",
                        command.line,
                        v.effect,
                        command.text.replace('\n', "\\n"),
                        v.never_ends.as_ref().map_or("", |_| "[endless] "),
                        v.interactive.as_ref().map_or("", |_| "[person] "),
                        v.placeholders
                    );
                }
            }
        }
        for finding in paramedic_runbook::lint(&document) {
            println!(
                "{file}:{} {:?} {} {} | {} -> {}",
                finding.line,
                finding.weight,
                finding.rule,
                finding.text.replace('\n', " "),
                finding.why,
                finding.instead
            );
        }
        println!("{file}: {} runbooks, {lines} command lines, problems {:?}", document.runbooks.len(), document.problems);
    }
}
