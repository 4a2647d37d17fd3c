//! Figures of keys and of how they die.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::PartialObjectMeta};
use marketrelay_api::labels;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{Led, counters, gauges};
use crate::{clock::Clock, controllers::keyring::facts, names::Names};

/// Of keyrings; what each of them holds is read at each scrape.
pub struct Keyrings {
    destroyed: IntCounterVec,
    lateness: Histogram,
    next: GaugeVec,
    waiting: IntGaugeVec,
    ahead: Gauge,
    paused: IntGauge,
}

impl Keyrings {
    /// All zero.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3_600.0, 86_400.0];
        let lateness = HistogramOpts::new(
            "marketrelay_key_destruction_lateness_seconds",
            "How long after their time keys of epochs, holds and backups were destroyed.",
        );
        let keyrings = Self {
            destroyed: counters("marketrelay_keys_destroyed_total", "Keys that were destroyed.", &["key"])?,
            lateness: Histogram::with_opts(lateness.buckets(buckets))?,
            next: GaugeVec::new(
                Opts::new(
                    "marketrelay_keyring_next_destruction_timestamp_seconds",
                    "When the next key of a keyring, or the next identity of its backups, dies; in the past while it is late.",
                ),
                &["namespace", "connection"],
            )?,
            waiting: gauges(
                "marketrelay_keyring_waits_for_relay",
                "1 for a keyring whose old volume key waits for the relay's confirmation.",
                &["namespace", "connection"],
            )?,
            ahead: Gauge::new(
                "marketrelay_clock_ahead_seconds",
                "How far the operator's clock is ahead of the API server's.",
            )?,
            paused: IntGauge::new(
                "marketrelay_key_destruction_paused",
                "1 while no key is destroyed, because the clocks don't agree.",
            )?,
        };
        registry.register(Box::new(keyrings.destroyed.clone()))?;
        registry.register(Box::new(keyrings.lateness.clone()))?;
        registry.register(Box::new(keyrings.next.clone()))?;
        registry.register(Box::new(keyrings.waiting.clone()))?;
        registry.register(Box::new(keyrings.ahead.clone()))?;
        registry.register(Box::new(keyrings.paused.clone()))?;
        Ok(keyrings)
    }

    /// A key is gone (`epoch`, `hold`, `backup`), so many seconds after its time.
    pub fn destroyed(&self, kind: &str, late_seconds: f64) {
        self.destroyed.with_label_values(&[kind]).inc();
        self.lateness.observe(late_seconds);
    }

    /// A hold's key is gone before its time.
    pub fn hold_ended(&self) {
        self.destroyed.with_label_values(&["hold"]).inc();
    }

    /// A volume key is gone.
    pub fn volume_key_destroyed(&self) {
        self.destroyed.with_label_values(&["volume"]).inc();
    }

    /// Before a scrape.
    pub fn read(&self, led: &[Led], clock: &Clock) {
        self.next.reset();
        self.waiting.reset();
        let ahead = clock.ahead();
        self.ahead.set(ahead.map_or(0.0, |ahead| ahead.as_secs_f64()));
        // A replica that doesn't lead compares nothing.
        self.paused.set((!led.is_empty() && !clock.agrees()).into());
        for Led { stores, keyrings, identities } in led {
            for secret in
                stores.secrets.state_filter(|secret: &PartialObjectMeta<Secret>| facts::is_keyring(secret))
            {
                let namespace = secret.namespace().unwrap_or_default();
                let Some(held) = keyrings.last(&namespace, &secret.name_any()) else { continue };
                let connection = secret.labels().get(labels::CONNECTION).map_or("", String::as_str);
                let values = [namespace.as_str(), connection];
                let identities = identities.last(&namespace, &Names(connection).backup_identities());
                let next = held.first().into_iter().chain(identities.and_then(|held| held.first())).min();
                if let Some(next) = next.and_then(|at| Timestamp::from_second(at.as_second()).ok()) {
                    self.next.with_label_values(&values).set(next.as_duration().as_secs_f64());
                }
                if held.keyring.is_ok_and(|facts| facts.generations.len() > 1) {
                    self.waiting.with_label_values(&values).set(1);
                }
            }
        }
    }
}
