//! What the relay counts, in Prometheus' text format.

use std::sync::PoisonError;

use jiff::Timestamp;
use marketrelay_api::relay::Activity;
use prometheus::{Encoder, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::{
    audit::{Action, Count},
    deliver::send::Answer,
    store::{ingest::Ingested, status::Counts},
};

/// The counters and gauges, registered once. Labels are bounded.
pub struct Metrics {
    registry: Registry,
    collected: IntCounterVec,
    pages: IntCounterVec,
    messages: IntCounterVec,
    events: IntCounterVec,
    totals: IntGaugeVec,
    held: IntGaugeVec,
    oldest_event_age: IntGauge,
    failing: IntGaugeVec,
    last_success: IntGaugeVec,
    audit_records: IntCounterVec,
    audit_deeds: IntCounterVec,
    scrape: std::sync::Mutex<()>,
}

fn counter(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("marketrelay_relay".to_owned()), None)?;
        let r = &registry;
        let oldest_event_age =
            IntGauge::new("oldest_event_age_seconds", "Age of the oldest event that waits")?;
        r.register(Box::new(oldest_event_age.clone()))?;
        Ok(Self {
            collected: counter(
                r,
                "collected_orders_total",
                "Orders that the marketplace told, by what became of them",
                "result",
            )?,
            pages: counter(r, "collected_pages_total", "Steps of collecting, by result", "result")?,
            messages: counter(r, "messages_total", "Webhook messages that were sent, by answer", "result")?,
            events: counter(r, "delivered_events_total", "Events in webhook messages, by answer", "result")?,
            totals: gauge(r, "stored", "What the database holds", "what")?,
            held: gauge(r, "held_orders", "Orders that a hold keeps", "hold")?,
            failing: gauge(r, "failing", "1 while an activity fails", "activity")?,
            last_success: gauge(
                r,
                "last_success_timestamp_seconds",
                "When an activity last succeeded",
                "activity",
            )?,
            audit_records: counter(r, "audit_records_total", "Audit records, by what was done", "action")?,
            audit_deeds: counter(
                r,
                "audit_deeds_total",
                "Orders, events and keys that audit records are about, by what was done",
                "action",
            )?,
            oldest_event_age,
            scrape: std::sync::Mutex::new(()),
            registry,
        })
    }

    /// A page was stored.
    pub fn ingested(&self, ingested: Ingested) {
        self.pages.with_label_values(&["ok"]).inc();
        let Ingested { new, changed, unchanged, dropped, erased } = ingested;
        for (result, count) in [
            ("new", new),
            ("changed", changed),
            ("unchanged", unchanged),
            ("dropped", dropped),
            ("erased", erased),
        ] {
            self.collected.with_label_values(&[result]).inc_by(count);
        }
    }

    /// A page could not be collected or stored.
    pub fn collecting_failed(&self, category: &str) {
        self.pages.with_label_values(&[category]).inc();
    }

    /// A message was sent.
    pub fn delivered(&self, answer: &Answer, events: usize) {
        let result = match answer {
            Answer::Taken => "taken",
            Answer::Gone => "gone",
            Answer::Refused { .. } => "refused",
            Answer::Failed { status: Some(_), .. } => "failed",
            Answer::Failed { status: None, .. } => "unreachable",
        };
        self.messages.with_label_values(&[result]).inc();
        self.events.with_label_values(&[result]).inc_by(events as u64);
    }

    /// As the database counts them, so that they go on after a restart.
    fn show_audit(&self, counts: &[Count]) {
        self.audit_records.reset();
        self.audit_deeds.reset();
        for action in Action::ALL.map(Action::as_str) {
            let count = counts.iter().find(|count| count.action == action);
            let (records, deeds) = count.map_or((0, 0), |count| (count.records, count.deeds));
            self.audit_records.with_label_values(&[action]).inc_by(records);
            self.audit_deeds.with_label_values(&[action]).inc_by(deeds);
        }
    }

    /// Everything as text, with the state of the database and of the activities at `now`.
    pub fn render(
        &self,
        counts: &Counts,
        audit: &[Count],
        activities: [(&str, Activity); 3],
        now: Timestamp,
    ) -> Vec<u8> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |what: &str, value: u64| {
            self.totals.with_label_values(&[what]).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        total("orders", counts.orders);
        total("with_pii", counts.with_pii);
        total("anonymised", counts.anonymised);
        total("overdue", counts.overdue);
        total("deliveries_at_risk", counts.deliveries_at_risk);
        total("backlog", counts.backlog);
        total("dropped_past_deadline", counts.dropped_past_deadline);
        total("given_up", counts.given_up);
        self.show_audit(audit);
        self.held.reset();
        for hold in &counts.holds {
            let orders = i64::try_from(hold.orders).unwrap_or(i64::MAX);
            self.held.with_label_values(&[&hold.name]).add(orders);
        }
        self.oldest_event_age.set(counts.oldest_event.map_or(0, |at| now.duration_since(at).as_secs()));
        for (name, activity) in activities {
            self.failing.with_label_values(&[name]).set(activity.failing_since.is_some().into());
            if let Some(at) = activity.last_success {
                self.last_success.with_label_values(&[name]).set(at.as_second());
            }
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be written");
        }
        text
    }
}
