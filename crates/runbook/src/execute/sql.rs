//! Statements for PostgreSQL. What only looks runs in a transaction that cannot change anything.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::Order;
use super::output::{Collected, OUTPUT_BYTES_MAX, hidden};
use crate::classify::Effect;
use crate::outcome::Outcome;

/// Rows that are kept; all are counted.
const ROWS_KEPT_MAX: u64 = 1_000;

pub(super) async fn run(url: Option<&str>, statement: &str, order: &Order) -> Outcome {
    let Some(url) = url else { return Outcome::fault("no PostgreSQL server is set for runbooks") };
    match ask(url, statement, order).await {
        Ok(outcome) => outcome,
        Err(why) => Outcome::fault(hidden(&why, &order.secrets, &order.redact)),
    }
}

async fn ask(url: &str, statement: &str, order: &Order) -> Result<Outcome, String> {
    // The library's reason may repeat parts of the URL.
    let mut config: Config = url.parse().map_err(|_| "the address of the PostgreSQL server cannot be read".to_owned())?;
    config.application_name("paramedic runbook").connect_timeout(order.timeout);
    if order.effect == Effect::Read {
        let lower = statement.to_ascii_lowercase();
        if ["read_only", "read write", "session characteristics"].iter().any(|words| lower.contains(words)) {
            return Err("what only looks does not change what a transaction may do".to_owned());
        }
        // Also for transactions that the statement begins itself: none of them can change anything.
        let options = format!("{} -c default_transaction_read_only=on", config.get_options().unwrap_or_default());
        config.options(options);
    }
    let (client, connection) = config.connect(NoTls).await.map_err(|error| reason(&error))?;
    // Ends with the client, or with the server.
    let driving = tokio::spawn(connection);
    let done = async {
        let limit = format!("SET statement_timeout = {}", order.timeout.as_millis());
        client.batch_execute(&limit).await.map_err(|error| reason(&error))?;
        if order.effect == Effect::Read {
            client.batch_execute("BEGIN READ ONLY").await.map_err(|error| reason(&error))?;
        }
        let mut found = Found::default();
        let mut answers = pin!(client.simple_query_raw(statement).await.map_err(|error| reason(&error))?);
        while let Some(answer) = answers.try_next().await.map_err(|error| reason(&error))? {
            found.take(&answer);
        }
        if order.effect == Effect::Read {
            client.batch_execute("ROLLBACK").await.map_err(|error| reason(&error))?;
        }
        Ok(found.outcome(order))
    };
    let done = done.await;
    drop(client);
    driving.abort();
    done
}

/// What is kept of the answers, which come one after another and may be more than memory holds.
#[derive(Default)]
struct Found {
    collected: Collected,
    rows: u64,
    first: Option<Vec<(String, Option<String>)>>,
    affected: u64,
}

impl Found {
    fn take(&mut self, answer: &SimpleQueryMessage) {
        match answer {
            SimpleQueryMessage::RowDescription(columns) => {
                let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
                self.collected.push(format!("{}\n", names.join("\t")).as_bytes());
            }
            SimpleQueryMessage::Row(row) => {
                self.rows += 1;
                if self.rows <= ROWS_KEPT_MAX {
                    for at in 0..row.len() {
                        self.collected.push(if at == 0 { b"" } else { b"\t" });
                        self.collected.push(row.get(at).unwrap_or("").as_bytes());
                    }
                    self.collected.push(b"\n");
                }
                let cells =
                    || row.columns().iter().enumerate().map(|(at, column)| (column.name().to_owned(), row.get(at).map(str::to_owned)));
                self.first.get_or_insert_with(|| cells().collect());
            }
            SimpleQueryMessage::CommandComplete(count) => self.affected = *count,
            _ => {}
        }
    }

    fn outcome(self, order: &Order) -> Outcome {
        let mut outcome = Outcome { rows: Some(self.rows), affected: Some(self.affected), ..Outcome::default() };
        outcome.stdout = self.collected.keep(&order.secrets, &order.redact);
        for (at, (name, cell)) in self.first.unwrap_or_default().into_iter().enumerate() {
            let Some(cell) = cell else { continue };
            let cell = hidden(&cell, &order.secrets, &order.redact);
            let cell = paramedic_model::text::head(&cell, OUTPUT_BYTES_MAX);
            if at == 0 {
                outcome.value = cell.parse().ok().filter(|value: &f64| value.is_finite());
            }
            outcome.fields.insert(name, cell.into());
        }
        outcome
    }
}

fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("PostgreSQL says: {} ({})", said.message(), said.code().code()),
        None => {
            let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
            format!("{error}{source}")
        }
    }
}
