//! The operator's metrics.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

mod backups;
mod keyrings;
mod records;

use crate::{
    audit,
    clock::Clock,
    controllers::keyring::{facts::Held, identities},
    secrets::Judged,
    stores::Stores,
};
pub use backups::Backups;
pub use keyrings::Keyrings;
use records::Records;

/// A scope that this replica works on.
#[derive(Clone)]
pub struct Led {
    /// What is watched.
    pub stores: Arc<Stores>,
    /// Judgements of keyrings.
    pub keyrings: Arc<Judged<Held>>,
    /// Judgements of backups' identities.
    pub identities: Arc<Judged<identities::facts::Held>>,
}

/// Everything that is counted; what connections say of themselves is read from the stores at each scrape.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    running: IntGaugeVec,
    waiting: IntGaugeVec,
    applied: IntCounter,
    statuses: IntCounter,
    leader: IntGauge,
    conditions: IntGaugeVec,
    backlog: IntGaugeVec,
    erasures: IntGaugeVec,
    audit: IntCounterVec,
    /// Of keys.
    pub keyrings: Keyrings,
    /// Of backups.
    pub backups: Backups,
    records: Records,
    /// Held while metrics are rendered: two at once would show each other's half.
    led: Mutex<Vec<Led>>,
    clock: Arc<Clock>,
}

impl Metrics {
    /// All zero.
    pub fn new(clock: Arc<Clock>) -> Result<Self, prometheus::Error> {
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let duration =
            HistogramOpts::new("marketrelay_reconcile_duration_seconds", "How long reconciles take.");
        let registry = Registry::new();
        let metrics = Self {
            keyrings: Keyrings::new(&registry)?,
            backups: Backups::new(&registry)?,
            records: Records::new(&registry)?,
            registry,
            reconciles: counters(
                "marketrelay_reconciles_total",
                "Reconciles that ended, by result.",
                &["kind", "result"],
            )?,
            durations: HistogramVec::new(duration.buckets(buckets), &["kind"])?,
            errors: counters(
                "marketrelay_reconcile_errors_total",
                "Reconciles that failed, by category.",
                &["kind", "category"],
            )?,
            running: gauges("marketrelay_reconciles_running", "Reconciles under way.", &["kind"])?,
            waiting: gauges(
                "marketrelay_reconcile_queue_length",
                "Objects that changed and wait for their reconcile.",
                &["kind"],
            )?,
            applied: IntCounter::new(
                "marketrelay_children_applied_total",
                "Children that were created or changed.",
            )?,
            statuses: IntCounter::new("marketrelay_status_writes_total", "Statuses that were written.")?,
            leader: IntGauge::new("marketrelay_leader", "1 on the replica that leads.")?,
            conditions: gauges(
                "marketrelay_connection_condition",
                "1 for the status that a connection's condition has.",
                &["namespace", "connection", "type", "status", "reason"],
            )?,
            backlog: gauges(
                "marketrelay_connection_backlog_events",
                "Events that waited for the destination when the status was last written.",
                &["namespace", "connection"],
            )?,
            erasures: gauges(
                "marketrelay_erasure_requests",
                "Erasure requests by the reason of their condition Complete.",
                &["namespace", "status", "reason"],
            )?,
            audit: counters(
                "marketrelay_audit_records_total",
                "Audit records of this process, by what was done and whether it was.",
                &["action", "result"],
            )?,
            led: Mutex::default(),
            clock,
        };
        let all: [Box<dyn prometheus::core::Collector>; 12] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.running.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.applied.clone()),
            Box::new(metrics.statuses.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.conditions.clone()),
            Box::new(metrics.backlog.clone()),
            Box::new(metrics.erasures.clone()),
            Box::new(metrics.audit.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// A reconcile begins; it counts as running until the guard is dropped.
    pub fn begin(&self, kind: &'static str) -> Running {
        let gauge = self.running.with_label_values(&[kind]);
        gauge.inc();
        Running(gauge)
    }

    /// How many objects of this kind wait.
    pub fn queue_length(&self, kind: &'static str) -> IntGauge {
        self.waiting.with_label_values(&[kind])
    }

    /// A reconcile ended, with the category of its error.
    pub fn ended(&self, kind: &'static str, took: Duration, error: Option<&'static str>) {
        let result = if error.is_some() { "error" } else { "ok" };
        self.reconciles.with_label_values(&[kind, result]).inc();
        self.durations.with_label_values(&[kind]).observe(took.as_secs_f64());
        if let Some(category) = error {
            self.errors.with_label_values(&[kind, category]).inc();
        }
    }

    /// Children were written.
    pub fn applied(&self, children: usize) {
        self.applied.inc_by(children as u64);
    }

    /// A status was written.
    pub fn status_written(&self) {
        self.statuses.inc();
    }

    /// This replica leads in these scopes.
    pub fn leads(&self, led: Vec<Led>) {
        self.leader.set((!led.is_empty()).into());
        *self.led.lock().unwrap_or_else(PoisonError::into_inner) = led;
    }

    /// Everything as text.
    pub fn render(&self) -> Vec<u8> {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        self.keyrings.read(&led, &self.clock);
        self.conditions.reset();
        self.backlog.reset();
        for connection in led.iter().flat_map(|led| led.stores.connections.state()) {
            let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
            let Some(status) = &connection.status else { continue };
            for condition in &status.conditions {
                let values = [&namespace, &name, &condition.type_, &condition.status, &condition.reason];
                self.conditions.with_label_values(&values).set(1);
            }
            if let Some(relay) = &status.relay {
                self.backlog.with_label_values(&[&namespace, &name]).set(relay.backlog);
            }
        }
        self.show_erasures(&led);
        self.audit.reset();
        for ((action, result), records) in audit::counts() {
            self.audit.with_label_values(&[action, result]).inc_by(records);
        }
        self.records.read(&led);
        self.backups.read(&led);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be written");
        }
        text
    }
}

impl Metrics {
    fn show_erasures(&self, led: &[Led]) {
        self.erasures.reset();
        for request in led.iter().flat_map(|led| led.stores.erasures.state()) {
            let namespace = request.namespace().unwrap_or_default();
            for complete in request.status.iter().flat_map(|status| &status.conditions) {
                self.erasures.with_label_values(&[&namespace, &complete.status, &complete.reason]).inc();
            }
        }
    }
}

/// A reconcile that is under way.
pub struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}
