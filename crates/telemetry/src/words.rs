//! Names that repeat (agents, sessions, event names) are stored once per partition; rows carry their ids.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension};

/// Ids kept in memory. When it is full the oldest half of the knowledge is not worth tracking: it starts anew.
const WORDS_MAX: usize = 16 * 1024;

/// Which column a word stands in: consecutive events mostly repeat the word of the same column.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Agent,
    Session,
    Name,
}

/// What the writer knows of the active partition's words.
#[derive(Default)]
pub(crate) struct Words {
    ids: HashMap<Box<str>, i64>,
    recent: [(String, i64); 3],
}

/// The statements of one transaction.
pub(crate) struct WordStatements<'conn> {
    conn: &'conn Connection,
    find: CachedStatement<'conn>,
    add: CachedStatement<'conn>,
}

impl<'conn> WordStatements<'conn> {
    pub(crate) fn new(conn: &'conn Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            find: conn.prepare_cached("select id from words where word = ?1")?,
            add: conn.prepare_cached("insert into words(word) values(?1)")?,
        })
    }
}

impl Words {
    pub(crate) fn id(&mut self, role: Role, word: &str, statements: &mut WordStatements<'_>) -> rusqlite::Result<i64> {
        let recent = &mut self.recent[role as usize];
        if recent.1 != 0 && recent.0 == word {
            return Ok(recent.1);
        }
        let id = match self.ids.get(word) {
            Some(id) => *id,
            None => {
                let id = match statements.find.query_row([word], |row| row.get(0)).optional()? {
                    Some(id) => id,
                    None => {
                        statements.add.execute([word])?;
                        statements.conn.last_insert_rowid()
                    }
                };
                if self.ids.len() >= WORDS_MAX {
                    self.ids.clear();
                }
                self.ids.insert(word.into(), id);
                id
            }
        };
        recent.0.clear();
        recent.0.push_str(word);
        recent.1 = id;
        Ok(id)
    }

    /// After a rollback the ids given in that transaction are not valid.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
