//! Processes that outlive this command. Each writes its own pid and start time before it becomes the program, so that a
//! pid that was given to somebody else is never killed. All carry the cluster's folder in their environment, so that
//! none is ever unknown.

use std::{
    ffi::OsStr,
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use snafu::ResultExt;

use crate::run::{MARK, Result, wait_for, write};

/// The processes of one cluster: `<dir>/pids/NAME` and `<dir>/log/NAME.log`.
#[derive(Clone)]
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
        let (log, record) = (self.log(name), self.record(name));
        write(&log, "")?;
        write(&record, "")?;
        let out = File::options().append(true).open(&log).whatever_context("can't open a log")?;
        let errors = out.try_clone().whatever_context("can't open a log")?;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", RECORD]).arg(&record).args(&self.prefix).args(words);
        command.current_dir(&self.dir).env(MARK, &self.dir).stdin(Stdio::null()).stdout(out).stderr(errors);
        command.spawn().with_whatever_context(|e| format!("can't start {name}: {e}"))?;
        let recorded = || fs::read_to_string(&record).is_ok_and(|record| record.ends_with('\n'));
        wait_for(name, Duration::from_secs(10), recorded)?;
        self.check(&[name])
    }

    /// Fails with the last lines of the log if one of them doesn't run.
    pub fn check(&self, names: &[&str]) -> Result<()> {
        let Some(name) = names.iter().find(|name| !self.runs(name)) else { return Ok(()) };
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        snafu::whatever!("{name} has ended; the end of {}:\n{last}", self.log(name).display())
    }

    /// The names of all that were started, and whether they run.
    pub fn all(&self) -> Vec<(String, bool)> {
        let mut names = self.names();
        names.sort();
        names.into_iter().map(|name| (name.clone(), self.runs(&name))).collect()
    }

    pub fn runs(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// Sends a signal to one that runs.
    pub fn signal(&self, name: &str, signal: &str) {
        if let Some(pid) = self.pid(name) {
            kill(signal, pid);
        }
    }

    /// Kills every process: what they would still write goes with the cluster.
    pub fn stop(&self) -> Result<()> {
        let recorded = || self.names().into_iter().filter_map(|name| self.pid(&name));
        kill_all("end of processes", || recorded().chain(marked(&self.dir)).collect())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("pids")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
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

/// The processes that were started for a cluster, by this command or by one that was killed.
pub fn marked(dir: &Path) -> Vec<u32> {
    let mark = format!("{MARK}={}", dir.display());
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids().filter(is_marked).collect()
}

/// All processes of this machine.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Kills what `find` finds until it finds nothing.
pub fn kill_all(what: &str, find: impl Fn() -> Vec<u32>) -> Result<()> {
    let gone = || {
        let left = find();
        for pid in &left {
            kill("-KILL", *pid);
        }
        left.is_empty()
    };
    wait_for(what, Duration::from_secs(20), gone)
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
