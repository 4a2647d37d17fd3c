//! The one source of the time.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time; tests have their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's time.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// The time that `tell` tells.
    pub fn of(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
