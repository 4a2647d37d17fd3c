//! Processes that outlive this command. Each writes its own pid and start time before it becomes the program, so that
//! none is ever unknown and a pid that was given to somebody else is never killed.

use std::{
    ffi::OsStr,
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use snafu::ResultExt;

use crate::run::{Result, wait_for, write};

/// The processes of one cluster: `<dir>/pids/NAME` and `<dir>/log/NAME.log`.
pub struct Processes {
    dir: PathBuf,
    /// Words before each program, such as `nsenter --net=…`.
    prefix: Vec<String>,
}

const RECORD: &str = r#"cut -d' ' -f1,22 /proc/$$/stat > "$0" && exec "$@""#;

impl Processes {
    pub fn new(dir: &Path, prefix: Vec<String>) -> Self {
        Self { dir: dir.to_path_buf(), prefix }
    }

    /// Starts a program unless it already runs.
    pub fn start<S: AsRef<OsStr>>(&self, name: &str, words: &[S]) -> Result<()> {
        if self.runs(name) {
            return Ok(());
        }
        let log = self.log(name);
        write(&log, "")?;
        write(&self.record(name), "")?;
        let out = File::options().append(true).open(&log).whatever_context("can't open a log")?;
        let errors = out.try_clone().whatever_context("can't open a log")?;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", RECORD]).arg(self.record(name)).args(&self.prefix).args(words);
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(out).stderr(errors);
        command.spawn().with_whatever_context(|e| format!("can't start {name}: {e}"))?;
        wait_for(name, Duration::from_secs(5), || self.pid(name).is_some())
    }

    pub fn runs(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// Ends every recorded process: asks first, then insists.
    pub fn stop(&self) {
        let names = || {
            let entries = fs::read_dir(self.dir.join("pids")).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok())
        };
        for signal in ["-TERM", "-KILL"] {
            for pid in names().filter_map(|name| self.pid(&name)) {
                kill(signal, pid);
            }
            let gone = || names().all(|name| !self.runs(&name));
            if wait_for("end of processes", Duration::from_secs(10), gone).is_ok() {
                return;
            }
        }
    }

    fn record(&self, name: &str) -> PathBuf {
        self.dir.join("pids").join(name)
    }

    fn pid(&self, name: &str) -> Option<u32> {
        let record = fs::read_to_string(self.record(name)).ok()?;
        let (pid, started) = record.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (start_time(pid)? == started).then_some(pid)
    }
}

/// Sends a signal to one process; one that is gone already is no error.
pub fn kill(signal: &str, pid: u32) {
    let mut command = Command::new("kill");
    command.args([signal, &pid.to_string()]).stderr(Stdio::null());
    drop(command.status());
}

/// Field 22 of `/proc/PID/stat`; `None` also for a zombie.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    (fields.next()? != "Z").then(|| fields.nth(18).map(str::to_owned)).flatten()
}
