//! How far a download has come, on standard error, if a person watches.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use crate::size::size;

const INTERVAL: Duration = Duration::from_millis(200);

/// One line that is written over.
pub struct Progress {
    total: u64,
    shown: Option<Instant>,
    is_watched: bool,
}

impl Progress {
    /// Of so many bytes.
    pub fn new(total: u64) -> Self {
        Self { total, shown: None, is_watched: stderr().is_terminal() }
    }

    /// So many have come.
    pub fn at(&mut self, bytes: u64) {
        if self.is_watched && self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
            self.shown = Some(Instant::now());
            let percent = 100 * bytes / self.total.max(1);
            write(&format!("{percent:3} % of {}", size(self.total)));
        }
    }
}

fn write(text: &str) {
    // Nobody misses it.
    drop(write!(stderr(), "\r\x1b[K{text}"));
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            write("");
        }
    }
}
