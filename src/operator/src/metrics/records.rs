//! Figures of connections' records, and of closures that aren't over.

use marketrelay_api::record::RecordPhase;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::{Led, gauges};
use crate::controllers::record::phase;

/// Read at each scrape.
pub struct Records {
    phases: IntGaugeVec,
    since: GaugeVec,
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
        };
        registry.register(Box::new(records.phases.clone()))?;
        registry.register(Box::new(records.since.clone()))?;
        Ok(records)
    }

    /// Before a scrape. Every scope sees all records.
    pub fn read(&self, led: &[Led]) {
        self.phases.reset();
        self.since.reset();
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
        }
    }
}
