//! What Jobs reported, as their pods have it, against what connections tell.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use marketrelay_api::{
    MarketplaceConnection,
    backup::{JobReport, Site},
    connection::{JobResult, SiteBackups},
    labels,
};

use crate::ledger::Place;

/// What one Job left behind.
struct Left {
    job: String,
    task: String,
    at: Timestamp,
    report: JobReport,
}

/// All reports, by tenant and site.
#[derive(Default)]
pub struct Reports {
    all: HashMap<Place, HashMap<String, Left>>,
}

impl Reports {
    /// A pod came or changed.
    pub fn saw(&mut self, pod: &Pod) {
        let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let Some(ended) = statuses.find_map(|status| status.state.as_ref()?.terminated.as_ref()) else {
            return;
        };
        let label = |name: &str| pod.labels().get(name).expect(name).clone();
        let job = label("batch.kubernetes.io/job-name");
        let message = ended.message.as_deref().expect("a message");
        let report = serde_json::from_str(message).unwrap_or_else(|error| panic!("{message}: {error}"));
        let at = ended.finished_at.as_ref().expect("an end").0;
        let left = Left { job: job.clone(), task: label(labels::TASK), at, report };
        let place = (pod.namespace().expect("a namespace"), label(labels::SITE));
        self.all.entry(place).or_default().insert(job, left);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.values().map(HashMap::len).sum()
    }

    /// The first difference between what a connection tells and what its own Jobs reported.
    pub fn difference(&self, connections: &[MarketplaceConnection]) -> Option<String> {
        connections.iter().find_map(|connection| self.differs(connection))
    }

    fn differs(&self, connection: &MarketplaceConnection) -> Option<String> {
        let namespace = connection.namespace().expect("a namespace");
        let backups = connection.status.as_ref().and_then(|status| status.backups.as_ref());
        Site::ALL.into_iter().find_map(|site| {
            let told = backups.and_then(|backups| backups.site(site)).map(Told::of);
            let place = (namespace.clone(), site.to_string());
            let expected = self.all.get(&place).map(|reports| Told::expected(reports.values().collect()));
            (told != expected)
                .then(|| format!("{place:?} tells {told:?} where its Jobs reported {expected:?}"))
        })
    }
}

/// What is compared.
#[derive(Debug, PartialEq)]
struct Told {
    count: i64,
    bytes: i64,
    listed_at: Option<i64>,
    sequence: Option<i64>,
    last_success: Option<i64>,
    last_run: Option<String>,
    last_prune: Option<String>,
}

impl Told {
    fn of(site: &SiteBackups) -> Self {
        let job = |last: &Option<JobResult>| {
            last.as_ref().map(|last| {
                assert_eq!(last.reason, None, "{}: {:?}", last.job, last.message);
                last.job.clone()
            })
        };
        Self {
            count: site.count,
            bytes: site.bytes,
            listed_at: site.listed_at.as_ref().map(|at| at.0.as_second()),
            sequence: site.sequence,
            last_success: site.last_success.as_ref().map(|at| at.0.as_second()),
            last_run: job(&site.last_run),
            last_prune: job(&site.last_prune),
        }
    }

    fn expected(mut reports: Vec<&Left>) -> Self {
        reports.sort_by_key(|left| left.at);
        let last = |task: &str| reports.iter().rfind(|left| left.task == task);
        let newest = reports.last().and_then(|left| left.report.listing.as_ref()).expect("a listing");
        let written = last("run").map(|left| left.report.written.as_ref().expect("what was written"));
        let number = |count: u64| i64::try_from(count).expect("a number");
        Self {
            count: number(newest.backups),
            bytes: number(newest.bytes),
            listed_at: Some(newest.at.as_second()),
            sequence: written.map(|written| number(written.sequence)),
            last_success: written.map(|written| written.created_at.as_second()),
            last_run: last("run").map(|left| left.job.clone()),
            last_prune: last("prune").map(|left| left.job.clone()),
        }
    }
}
