//! One running Paramedic per data folder: the lock, and the file that tells others where it listens.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Local socket of a running instance, inside the data folder.
pub const SOCKET_FILE: &str = "paramedic.sock";
/// Addresses of a running instance, inside the data folder.
pub const PORTS_FILE: &str = "ports.json";
const LOCK_FILE: &str = "lock";

#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("create the data folder {}: {source}", dir.display())]
    Create { dir: PathBuf, source: std::io::Error },
    #[error("use the data folder {}: another paramedic (pid {pid}) is running on it; stop that one, or choose another folder with --data DIR", dir.display())]
    Running { dir: PathBuf, pid: String },
    #[error("write {}: {source}", file.display())]
    Write { file: PathBuf, source: std::io::Error },
}

/// Where a running instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ports {
    pub pid: u32,
    #[serde(default)]
    pub http: Option<SocketAddr>,
    #[serde(default)]
    pub otlp_grpc: Option<SocketAddr>,
    #[serde(default)]
    pub otlp_http: Option<SocketAddr>,
    /// Where agents send their model calls.
    #[serde(default)]
    pub gateway: Option<SocketAddr>,
}

impl Ports {
    /// What the data folder says about a running instance; none when there is none.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(PORTS_FILE)).ok()?).ok()
    }
}

/// Holds the data folder for this process; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub struct Instance {
    dir: PathBuf,
    _lock: File,
}

impl Instance {
    pub fn acquire(dir: &Path) -> Result<Self, InstanceError> {
        std::fs::create_dir_all(dir).map_err(|source| InstanceError::Create { dir: dir.to_owned(), source })?;
        restrict_to_owner(dir);
        let file = dir.join(LOCK_FILE);
        let cannot = |source| InstanceError::Write { file: file.clone(), source };
        let mut lock = File::options().read(true).write(true).create(true).truncate(false).open(&file).map_err(cannot)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            return Err(InstanceError::Running { dir: dir.to_owned(), pid: pid.trim().to_owned() });
        }
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id())).map_err(cannot)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub fn publish(&self, ports: &Ports) -> Result<(), InstanceError> {
        let file = self.dir.join(PORTS_FILE);
        let text = serde_json::to_vec(ports).unwrap_or_default();
        let temporary = self.dir.join("ports.json.new");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &file))
            .map_err(|source| InstanceError::Write { file, source })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.dir.join(PORTS_FILE));
        let _ = std::fs::remove_file(self.dir.join(SOCKET_FILE));
    }
}

/// Transcripts hold what people typed: nobody else on the machine needs to read the copy. Best effort, because a
/// folder on a foreign file system may not know rights.
fn restrict_to_owner(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700));
}

/// Whether an instance holds the folder right now.
#[must_use]
pub fn is_running(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join(LOCK_FILE)) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}
