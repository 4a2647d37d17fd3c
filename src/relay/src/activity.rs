//! How collecting and delivering go, for the status, the metrics and the log.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use marketrelay_api::relay::Activity;

/// What an activity tells, shared with who shows it.
#[derive(Clone)]
pub struct Reporter {
    name: &'static str,
    activity: Arc<Mutex<Activity>>,
}

impl Reporter {
    /// Of an activity that has done nothing yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, activity: Arc::default() }
    }

    /// It worked.
    pub fn succeed(&self, now: Timestamp) {
        let mut activity = self.lock();
        if activity.failing_since.is_some() {
            tracing::info!(activity = self.name, "works again");
        }
        *activity = Activity { last_success: Some(now), ..Activity::default() };
    }

    /// It failed: a bounded reason, and a message without PII that says what to do.
    pub fn fail(&self, now: Timestamp, reason: &str, message: String) {
        let mut activity = self.lock();
        if activity.reason.as_deref() != Some(reason) {
            tracing::warn!(activity = self.name, reason, message, "fails");
        }
        activity.failing_since.get_or_insert(now);
        activity.reason = Some(reason.to_owned());
        activity.message = Some(message);
    }

    /// As it is now.
    pub fn get(&self) -> Activity {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
