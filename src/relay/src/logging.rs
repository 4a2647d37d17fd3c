//! The log: JSON lines on standard output, without anything that identifies a person.

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Starts logging, as much as `RUST_LOG` says.
pub fn start() {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = fmt::layer().json().with_filter(chosen.and(filter_fn(harmless)));
    tracing_subscriber::registry().with(layer).init();
}

/// What the libraries tell below a warning can hold URLs with order numbers, headers with tokens and bodies; it is left
/// out whatever `RUST_LOG` says.
fn harmless(event: &Metadata<'_>) -> bool {
    event.target().starts_with("marketrelay") || *event.level() <= Level::WARN
}
