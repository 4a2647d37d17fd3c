//! What the receiver counts, in Prometheus' text format.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Encoder, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// The counters and gauges, registered once. Labels are bounded.
pub struct Metrics {
    registry: Registry,
    received: IntCounterVec,
    look_ups: IntCounterVec,
    last_accepted: IntGauge,
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounterVec> {
    let counter = IntCounterVec::new(Opts::new(name, help), &["result"])?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

impl Metrics {
    /// All zero.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("marketrelay_notices".to_owned()), None)?;
        let last_accepted =
            IntGauge::new("last_accepted_timestamp_seconds", "When the last notice became erasures")?;
        registry.register(Box::new(last_accepted.clone()))?;
        Ok(Self {
            received: counter(
                &registry,
                "received_total",
                "Requests to the endpoint, by what became of them",
            )?,
            look_ups: counter(&registry, "key_look_ups_total", "Look-ups of eBay's public keys, by result")?,
            last_accepted,
            registry,
        })
    }

    /// A request was answered.
    pub fn received(&self, result: &'static str) {
        self.received.with_label_values(&[result]).inc();
    }

    /// A notice became erasures.
    pub fn accepted(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_accepted.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// A key was looked for.
    pub fn looked_up(&self, result: &'static str) {
        self.look_ups.with_label_values(&[result]).inc();
    }

    /// Everything as text.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be written");
        }
        text
    }
}
