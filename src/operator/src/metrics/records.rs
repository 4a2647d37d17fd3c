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
        };
        registry.register(Box::new(records.phases.clone()))?;
        registry.register(Box::new(records.since.clone()))?;
        registry.register(Box::new(records.stores.clone()))?;
        Ok(records)
    }

    /// Before a scrape. Every scope sees all records.
    pub fn read(&self, led: &[Led]) {
        self.phases.reset();
        self.since.reset();
        self.stores.reset();
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
            if phase == RecordPhase::Closing {
                self.closing(&record);
            }
        }
    }

    fn closing(&self, record: &ConnectionRecord) {
        let proof = record.status.as_ref().and_then(|status| status.closure.as_ref());
        for store in proof.iter().flat_map(|proof| &proof.stores) {
            let state = match (&store.purged_at, &store.abandoned_at, &store.last_failure) {
                (Some(_), ..) => "purged",
                (None, Some(_), _) => "abandoned",
                (None, None, Some(_)) => "failing",
                (None, None, None) => "waiting",
            };
            let spec = &record.spec;
            self.stores.with_label_values(&[spec.namespace.as_str(), &spec.connection, state]).inc();
        }
    }
}
