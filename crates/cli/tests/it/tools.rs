//! Programs that some tests need; `cargo xtask setup` installs them. A test without its program says so and passes.

use std::path::{Path, PathBuf};

/// Says why a test did not run. The test command collects these lines.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        eprintln!("skipped: {}", format!($($why)*));
        return;
    }};
}

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The target folder: two levels above the program under test.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_paramedic")).parent().and_then(Path::parent).unwrap().to_path_buf()
}

fn tool(path: &str) -> Option<PathBuf> {
    let file = target().join("test-tools").join(path);
    file.is_file().then_some(file)
}

pub fn claude_code() -> Option<PathBuf> {
    let platform = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    tool(&format!("npm/node_modules/@anthropic-ai/claude-code-{platform}/claude"))
}

pub fn python() -> Option<PathBuf> {
    tool("python/bin/python")
}

pub fn browser() -> Option<PathBuf> {
    let by_hand = std::env::var_os("PARAMEDIC_TEST_BROWSER").map(PathBuf::from);
    let folders = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    by_hand.into_iter().chain(names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)))).find(|file| file.is_file())
}

/// Recorded sessions of real people, which are not part of the repository.
pub fn real_sessions() -> Option<PathBuf> {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA").map_or_else(|| workspace().join("../shared/data"), PathBuf::from);
    let sessions = data.join("transcripts/projects");
    sessions.is_dir().then_some(sessions)
}
