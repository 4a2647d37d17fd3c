//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Until everything that is waited for has happened.
pub const SOON: Duration = Duration::from_mins(1);

/// Waits until `look` finds something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
