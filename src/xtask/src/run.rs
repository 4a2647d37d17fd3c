//! Running other programs, with errors that say which one failed and what it said.

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use snafu::{ResultExt, Whatever, ensure_whatever};

/// Every command of this tool ends in a sentence for a person.
pub type Result<T, E = Whatever> = std::result::Result<T, E>;

/// In the environment of programs that work on a local cluster: its folder.
pub const MARK: &str = "MARKETRELAY_CLUSTER_DIR";

thread_local! {
    static MARKED: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Programs that this thread starts are marked until this is dropped, so that they are found should this command be
/// killed before them.
pub struct Marked(());

impl Marked {
    /// With a local cluster's folder.
    pub fn with(dir: &Path) -> Self {
        MARKED.set(Some(dir.to_path_buf()));
        Self(())
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        MARKED.set(None);
    }
}

/// Builds a command from its words.
pub fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    if let Some(dir) = MARKED.with_borrow(Clone::clone) {
        command.env(MARK, dir);
    }
    command
}

/// Runs to the end and gives what it printed; a failure shows its words and its last lines of output.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let out = command.output().with_whatever_context(|e| format!("can't run `{shown}`: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    ensure_whatever!(
        out.status.success(),
        "`{shown}` failed ({}):\n{}",
        out.status,
        tail(&format!("{text}{errors}"))
    );
    Ok(text)
}

/// Runs to the end with this terminal's input and output.
pub fn inherit(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_whatever_context(|e| format!("can't run `{shown}`: {e}"))?;
    ensure_whatever!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// `output` of words.
pub fn run<S: AsRef<OsStr>>(words: &[S]) -> Result<String> {
    output(&mut command(words))
}

/// Asks `done` until it says yes or `limit` has passed.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = std::time::Instant::now();
    while !done() {
        ensure_whatever!(start.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_whatever_context(|e| format!("can't make {}: {e}", parent.display()))?;
    }
    fs::write(path, contents).with_whatever_context(|e| format!("can't write {}: {e}", path.display()))
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_whatever_context(|e| format!("can't read {}: {e}", path.display()))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
