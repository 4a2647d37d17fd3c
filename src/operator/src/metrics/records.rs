//! Figures of connections' records, and of closures that aren't over.

use marketrelay_api::{ConnectionRecord, record::RecordPhase};
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::{Led, gauges};
use crate::controllers::record::phase;

/// Read at each scrape.
pub struct Records {
    phases: IntGaugeVec,
    since: GaugeVec,
    stores: IntGaugeVec,
    left: IntGaugeVec,
}

impl Records {
    /// None yet.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let records = Self {
            phases: gauges("marketrelay_connection_records", "Records of connections by phase.", &["phase"])?,
            since: GaugeVec::new(
                Opts::new(
                    "marketrelay_closure_since_timestamp_seconds",
                    "Since when an account is being closed, or waits for that.",
                ),
                &["namespace", "connection", "phase"],
            )?,
            stores: gauges(
                "marketrelay_closure_stores",
                "Stores of an account that is being closed.",
                &["namespace", "connection", "state"],
            )?,
            left: gauges(
                "marketrelay_left_stores",
                "Stores of backups that a connection doesn't use any more, or that is deleted.",
                &["namespace", "connection", "state"],
            )?,
        };
        registry.register(Box::new(records.phases.clone()))?;
        registry.register(Box::new(records.since.clone()))?;
        registry.register(Box::new(records.stores.clone()))?;
        registry.register(Box::new(records.left.clone()))?;
        Ok(records)
    }

    /// Before a scrape. Every scope sees all records.
    pub fn read(&self, led: &[Led]) {
        self.phases.reset();
        self.since.reset();
        self.stores.reset();
        self.left.reset();
        for record in led.first().into_iter().flat_map(|led| led.stores.records.state()) {
            let phase = phase(&record);
            let shown = format!("{phase:?}");
            self.phases.with_label_values(&[&shown]).inc();
            let since = record.status.as_ref().and_then(|status| status.since.as_ref());
            if let Some(since) = since
                && [RecordPhase::AwaitingConfirmation, RecordPhase::Closing].contains(&phase)
            {
                let values = [&record.spec.namespace, &record.spec.connection, &shown];
                self.since.with_label_values(&values).set(since.0.as_duration().as_secs_f64());
            }
            match phase {
                RecordPhase::Closing => self.closing(&record),
                RecordPhase::Closed => {}
                _ => self.left(&record),
            }
        }
    }

    fn closing(&self, record: &ConnectionRecord) {
        let proof = record.status.as_ref().and_then(|status| status.closure.as_ref());
        for store in proof.iter().flat_map(|proof| &proof.stores) {
            let purged = store.purged_at.as_ref().or(store.never_used_at.as_ref());
            let state = match (purged, &store.abandoned_at, &store.last_failure) {
                (Some(_), ..) => "purged",
                (None, Some(_), _) => "abandoned",
                (None, None, Some(_)) => "failing",
                (None, None, None) => "waiting",
            };
            let spec = &record.spec;
            self.stores.with_label_values(&[spec.namespace.as_str(), &spec.connection, state]).inc();
        }
    }

    fn left(&self, record: &ConnectionRecord) {
        let stores = record.status.iter().flat_map(|status| &status.stores);
        for store in stores.filter(|store| store.left_at.is_some()) {
            let is_failing = store.prune_failure.is_some() || store.escrow_failure.is_some();
            let is_empty = store.backups.as_ref().is_some_and(|backups| backups.next_at.is_none());
            let state = match (store.is_settled(), is_failing, is_empty) {
                (true, ..) if store.abandoned_at.is_some() => "abandoned",
                (true, ..) | (false, false, true) => "empty",
                (false, true, _) => "failing",
                (false, false, false) => "expiring",
            };
            let spec = &record.spec;
            self.left.with_label_values(&[spec.namespace.as_str(), &spec.connection, state]).inc();
        }
    }
}
