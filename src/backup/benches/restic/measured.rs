//! Programs that run to their end: for how long, and with how much memory.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

/// Between two looks at a program's memory; what is read is the highest so far.
const LOOK: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_mins(30);

/// What a program took.
#[derive(Clone, Copy)]
pub struct Measured {
    pub seconds: f64,
    /// Highest resident memory in MiB.
    pub peak: f64,
}

/// Runs a program, which succeeds; what it prints goes into `log`.
pub async fn run(command: &mut Command, log: &Path) -> Measured {
    let file = File::create(log).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a handle")).stderr(file).kill_on_drop(true);
    let began = Instant::now();
    let mut child = command.spawn().expect("a program");
    let (id, mut peak) = (child.id().expect("it runs"), 0.0_f64);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.expect("a status"),
            () = tokio::time::sleep(LOOK) => peak = peak.max(highest(id).unwrap_or_default()),
        }
        assert!(began.elapsed() < LONGEST, "{command:?} doesn't end: {}", text(log));
    };
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}: {}", text(log));
    assert!(peak > 0.0, "{command:?} had ended before it was looked at");
    Measured { seconds, peak }
}

fn text(log: &Path) -> String {
    fs::read_to_string(log).expect("a log")
}

/// The highest resident memory of a process in MiB; `None` once it has ended.
pub fn highest(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u32 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(f64::from(kibibytes) / 1024.0)
}

/// The highest is counted anew from what it is now.
pub fn forget_highest(id: u32) {
    fs::write(format!("/proc/{id}/clear_refs"), "5").expect("the process is ours");
}

/// The least, the middle one and the greatest.
pub fn spread(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}
