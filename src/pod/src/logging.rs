//! The log: JSON lines on standard output, without anything that identifies a person.

use std::env;

use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Starts logging, as much as `RUST_LOG` says: a level, or levels of targets (`warn,marketrelay_relay=debug`).
pub fn start() {
    let chosen = env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let chosen = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = fmt::layer().json().with_filter(chosen.and(filter_fn(harmless)));
    tracing_subscriber::registry().with(layer).init();
}

/// What the libraries tell below a warning can hold URLs with order numbers, headers with tokens and bodies; it is left
/// out whatever `RUST_LOG` says.
fn harmless(event: &Metadata<'_>) -> bool {
    event.target().starts_with("marketrelay") || *event.level() <= Level::WARN
}
