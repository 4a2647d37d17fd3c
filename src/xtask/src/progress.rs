//! Progress that a person reads: one line per step, with the time since the start.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

static START: OnceLock<Instant> = OnceLock::new();

/// Starts the clock; later calls change nothing.
pub fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// Says what is being done now.
pub fn step(text: impl AsRef<str>) {
    println!("{:>7}  {}", seconds(start().elapsed()), text.as_ref());
}

/// `12.3s` or `4m05s`.
pub fn seconds(duration: Duration) -> String {
    let secs = duration.as_secs();
    if secs < 100 {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", secs / 60, secs % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2s");
        assert_eq!(seconds(Duration::from_secs(245)), "4m05s");
    }
}
