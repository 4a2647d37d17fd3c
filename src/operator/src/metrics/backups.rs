//! Figures of backups, and of the Jobs that take them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use marketrelay_api::{backup::Site, connection::SiteBackups};
use prometheus::{GaugeVec, IntCounter, IntGaugeVec, Opts, Registry};

use super::{Led, gauges};
use crate::controllers::backup::{BackupJob, Stage};

const LABELS: [&str; 3] = ["namespace", "connection", "site"];

/// Read from statuses and Jobs at each scrape.
pub struct Backups {
    newest: GaugeVec,
    last_success: GaugeVec,
    listed: GaugeVec,
    drilled: GaugeVec,
    drill_seconds: IntGaugeVec,
    drill_age: IntGaugeVec,
    count: IntGaugeVec,
    bytes: IntGaugeVec,
    overdue: IntGaugeVec,
    damaged: IntGaugeVec,
    foreign: IntGaugeVec,
    jobs: IntGaugeVec,
    dropped: IntCounter,
}

impl Backups {
    /// None yet.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let times = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
        let backups = Self {
            newest: times(
                "marketrelay_backup_newest_timestamp_seconds",
                "When the newest backup in the store was taken.",
            )?,
            last_success: times(
                "marketrelay_backup_last_success_timestamp_seconds",
                "When the last backup was taken that was written and read back.",
            )?,
            listed: times("marketrelay_backup_listed_timestamp_seconds", "When the store was last listed.")?,
            drilled: times(
                "marketrelay_backup_drilled_timestamp_seconds",
                "When a backup of the site was last restored and found to be right.",
            )?,
            drill_seconds: gauges(
                "marketrelay_backup_drill_duration_seconds",
                "How long that took: what a restore takes.",
                &LABELS,
            )?,
            drill_age: gauges(
                "marketrelay_backup_drill_age_seconds",
                "How old the backup was then: what a restore would have lost.",
                &LABELS,
            )?,
            count: gauges("marketrelay_backups", "Backups in the store.", &LABELS)?,
            bytes: gauges(
                "marketrelay_backup_bytes",
                "Bytes in the store, older versions and unfinished uploads included.",
                &LABELS,
            )?,
            overdue: gauges(
                "marketrelay_backups_overdue",
                "Backups, versions and unfinished uploads that should be gone and are still there.",
                &LABELS,
            )?,
            damaged: gauges(
                "marketrelay_backups_damaged",
                "Backups in the store that can't be restored: unreadable, or not the relay's.",
                &LABELS,
            )?,
            foreign: gauges(
                "marketrelay_backups_foreign",
                "Objects below the connection's prefix that are none of its backups.",
                &LABELS,
            )?,
            jobs: gauges(
                "marketrelay_backup_jobs",
                "Jobs of backups that wait for their store or are at work.",
                &["state"],
            )?,
            dropped: IntCounter::new(
                "marketrelay_backup_jobs_dropped_total",
                "Jobs of backups that waited until the next one was due.",
            )?,
        };
        registry.register(Box::new(backups.newest.clone()))?;
        registry.register(Box::new(backups.last_success.clone()))?;
        registry.register(Box::new(backups.listed.clone()))?;
        registry.register(Box::new(backups.drilled.clone()))?;
        registry.register(Box::new(backups.drill_seconds.clone()))?;
        registry.register(Box::new(backups.drill_age.clone()))?;
        registry.register(Box::new(backups.count.clone()))?;
        registry.register(Box::new(backups.bytes.clone()))?;
        registry.register(Box::new(backups.overdue.clone()))?;
        registry.register(Box::new(backups.damaged.clone()))?;
        registry.register(Box::new(backups.foreign.clone()))?;
        registry.register(Box::new(backups.jobs.clone()))?;
        registry.register(Box::new(backups.dropped.clone()))?;
        Ok(backups)
    }

    /// A Job has waited for too long.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// Before a scrape.
    pub fn read(&self, led: &[Led]) {
        self.forget();
        for connection in led.iter().flat_map(|led| led.stores.connections.state()) {
            let Some(backups) = connection.status.as_ref().and_then(|status| status.backups.as_ref()) else {
                continue;
            };
            let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
            for site in Site::ALL {
                let Some(known) = backups.site(site) else { continue };
                self.show([&namespace, &name, &site.to_string()], known);
            }
        }
        if led.is_empty() {
            return;
        }
        let [waiting, running] = ["waiting", "running"].map(|state| self.jobs.with_label_values(&[state]));
        for job in led.iter().flat_map(|led| led.stores.jobs.state()) {
            match BackupJob::of(&job).map(|job| job.stage) {
                Some(Stage::Waits) => waiting.inc(),
                Some(Stage::Runs) => running.inc(),
                Some(Stage::Ended(_)) | None => {}
            }
        }
    }

    fn forget(&self) {
        for times in [&self.newest, &self.last_success, &self.listed, &self.drilled] {
            times.reset();
        }
        let of_stores = [&self.count, &self.bytes, &self.overdue, &self.damaged, &self.foreign];
        for figures in of_stores.into_iter().chain([&self.jobs, &self.drill_seconds, &self.drill_age]) {
            figures.reset();
        }
    }

    fn show(&self, values: [&str; 3], known: &SiteBackups) {
        let time = |gauge: &GaugeVec, at: Option<&Time>| {
            if let Some(at) = at {
                gauge.with_label_values(&values).set(at.0.as_duration().as_secs_f64());
            }
        };
        time(&self.newest, known.newest.as_ref());
        time(&self.last_success, known.last_success.as_ref());
        time(&self.listed, known.listed_at.as_ref());
        if let Some(drilled) = &known.drilled {
            time(&self.drilled, Some(&drilled.at));
            self.drill_seconds.with_label_values(&values).set(drilled.seconds);
            self.drill_age.with_label_values(&values).set(drilled.age_seconds);
        }
        for (gauge, figure) in [
            (&self.count, known.count),
            (&self.bytes, known.bytes),
            (&self.overdue, known.overdue),
            (&self.damaged, known.damaged),
            (&self.foreign, known.foreign),
        ] {
            gauge.with_label_values(&values).set(figure);
        }
    }
}
