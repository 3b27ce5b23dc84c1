//! The file of the log: read at opening, appended to, and written anew beside itself.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::book::Book;
use super::entry::{Entry, HEAD};

const NAME: &str = "spend.log";
/// A longer line is damaged.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Folds the log of a directory into the book, and gives the number of lines that could not be read. A log that is of no
/// known version is set aside, not lost.
pub(super) fn load(dir: &Path, book: &mut Book) -> Result<u64, OpenError> {
    let path = dir.join(NAME);
    let failed = |source| OpenError::Read { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => BufReader::with_capacity(1 << 16, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut line = Vec::new();
    if !next_line(&mut file, &mut line).map_err(failed)? {
        // Nothing at all, or a first line that was never finished.
        return Ok(u64::from(!line.is_empty()));
    }
    if line != HEAD.as_bytes() {
        let aside = dir.join(format!("{NAME}.unread"));
        tracing::warn!(path = %aside.display(), "the log of what was spent is of another version and is set aside");
        fs::rename(&path, &aside).map_err(failed)?;
        return Ok(1);
    }
    let mut damaged = 0;
    while next_line(&mut file, &mut line).map_err(failed)? {
        let known = Entry::read(&line).is_some_and(|entry| book.apply(&entry));
        damaged += u64::from(!known);
    }
    // The end of a log whose writer was killed: torn, and known to be.
    Ok(damaged + u64::from(!line.is_empty()))
}

/// Reads a whole line, without its end; false at the end of the file, where the line is what was not finished.
fn next_line(file: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    file.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(true);
    }
    if u64::try_from(line.len()).unwrap_or(u64::MAX) < LINE_BYTES_MAX {
        return Ok(false);
    }
    file.skip_until(b'\n')?;
    line.clear();
    Ok(true)
}

/// A log that is open for writing.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: Arc<File>,
    inode: u64,
    /// Bytes.
    pub(super) size: u64,
}

/// Whose the path is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Ours,
    /// Somebody removed it, or what it was in.
    Nobody,
    /// Another gateway opened this directory after us.
    Another,
}

impl Log {
    /// Writes all beside the old log, makes it last, and puts it in the old one's place.
    pub(super) fn write_anew(dir: &Path, text: &str) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let new = dir.join(format!("{NAME}.new"));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(NAME))?;
        File::open(dir)?.sync_all()?;
        let inode = file.metadata()?.ino();
        Ok(Self { file: Arc::new(file), inode, size: u64::try_from(text.len()).unwrap_or(u64::MAX) })
    }

    pub(super) fn append(&mut self, text: &str) -> std::io::Result<()> {
        (&*self.file).write_all(text.as_bytes())?;
        self.size += u64::try_from(text.len()).unwrap_or_default();
        Ok(())
    }

    pub(super) fn owner(&self, dir: &Path) -> Owner {
        match fs::metadata(path(dir)) {
            Ok(found) if found.ino() == self.inode => Owner::Ours,
            Ok(_) => Owner::Another,
            Err(_) => Owner::Nobody,
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}
