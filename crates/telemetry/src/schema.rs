//! The two kinds of files, their tables and how they are opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use paramedic_model::Fact;

use crate::row::{LEVELS, SOURCES};

/// The format of a partition file. A newer one is refused; an older one must still be read.
pub(crate) const VERSION: i64 = 1;
/// The format of an index file. Any other one is deleted and built anew.
pub(crate) const INDEX_VERSION: i64 = 1;

const PARTITION_TABLES: &str = "
create table partition(
    version integer not null, first_seq integer not null, day text not null,
    last_seq integer not null, events integer not null, at_min integer not null, at_max integer not null);
create table words(id integer primary key, word text not null unique);
create table events(
    seq integer primary key, at integer not null, class integer not null, agent integer, session integer,
    name integer not null, uid integer, text text not null, attributes text, fact text, correlation text);
create table offsets(
    file text primary key, position integer not null, identity integer not null, lines integer not null) without rowid;
";

/// Every token of an event once, without positions: phrases are verified on the row itself. The tokenizer only splits
/// at blanks here, because the body is already made of normalised tokens.
const INDEX_TABLES: &str = "
create table progress(version integer not null, indexed_to integer not null);
create table blocks(
    first_seq integer primary key, last_seq integer not null, at_min integer not null, at_max integer not null,
    kinds integer not null, sources integer not null, levels integer not null);
create virtual table tokens using fts5(body, content='', columnsize=0, detail=none, tokenize='ascii');
";

/// For people with an SQLite shell: the same rows with names and times.
fn readable_view() -> String {
    let cases = |shift: u32, names: &[&str]| {
        let whens: String = names.iter().enumerate().map(|(i, name)| format!(" when {i} then '{name}'")).collect();
        format!("case (class >> {shift}) & 255{whens} end")
    };
    format!(
        "create view readable as select seq, strftime('%Y-%m-%dT%H:%M:%fZ', at / 1e6, 'unixepoch') as at,
         {} as kind, {} as level, {} as source,
         (select word from words where id = agent) as agent, (select word from words where id = session) as session,
         (select word from words where id = name) as name, text, attributes, fact, correlation from events;",
        cases(16, &Fact::KINDS),
        cases(8, &LEVELS),
        cases(0, &SOURCES)
    )
}

/// Writes the tables of a new partition. The caller has an open transaction.
pub(crate) fn create_partition(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(PARTITION_TABLES)?;
    conn.execute_batch(&readable_view())
}

pub(crate) fn create_index(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(INDEX_TABLES)?;
    conn.execute("insert into progress values(?1, 0)", [INDEX_VERSION])?;
    Ok(())
}

/// One connection is used by one thread at a time, so SQLite's own mutexes are off.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// For the one thread that writes this file. The page cache is small on purpose: rows are only added at the end.
pub(crate) fn open_writer(file: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(file, FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -2000; pragma mmap_size = 0;
         pragma wal_autocheckpoint = 2000; pragma journal_size_limit = 33554432; pragma temp_store = memory;",
    )?;
    Ok(conn)
}

/// For searching. Sees what was committed when its statement began. The file is opened for writing where that is
/// permitted, because only then can SQLite take in the log that a killed writer left behind; events are never changed.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let mut conn = Connection::open_with_flags(file, FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    // A file in WAL mode cannot be read in a folder where its shared memory file cannot be made: then nobody else
    // writes there either, and the file is read as it lies.
    let first = conn.query_row("select 1 from sqlite_master limit 1", [], |_| Ok(()));
    if first.is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::CannotOpen)) && !wal_of(file).exists() {
        let name = file.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let uri = format!("file:{name}?immutable=1");
        conn = Connection::open_with_flags(uri, FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
    }
    conn.execute_batch("pragma query_only = on; pragma cache_size = -1000; pragma mmap_size = 0; pragma temp_store = memory;")?;
    Ok(conn)
}

pub(crate) fn wal_of(file: &Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

pub(crate) fn shm_of(file: &Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-shm");
    name.into()
}
