//! What takes a connection's backups and drills them: four CronJobs for each site, and what their Jobs need. Pure.

mod config_map;
mod cron_job;
mod job_spec;
mod network_policy;
mod pod;
mod service_account;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::CronJob,
    core::v1::{ConfigMap, Secret, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{ResourceExt, api::PartialObjectMeta, runtime::reflector::ObjectRef};
use marketrelay_api::{backup::Site, labels, operator_config::BackupSettings};

use super::{Plan, tls_secret};
use crate::{
    controllers::{backup::Task, connection::backup::Wanted, keyring::escrow::is_escrow},
    names::Names,
    pki::{Authority, PkiError, Subject},
    stores::Stores,
};

pub use config_map::{erasures, file_name, s3};
pub use job_spec::job_spec;
pub use pod::{CONTAINER, data, identities, job_container, job_pod, restricted};

/// Which CronJob of a connection.
pub type Which = (Site, Task);

/// All that a connection may have.
pub fn cron_jobs() -> impl Iterator<Item = Which> {
    let all = Site::ALL.into_iter().flat_map(|site| Task::ALL.map(|task| (site, task)));
    all.filter(|which| *which != (Site::OnSite, Task::Escrow))
}

/// Whether keys are escrowed at this site: where the loss of the cluster doesn't reach, for who can open them.
pub fn is_escrowed(settings: &BackupSettings, site: Site) -> bool {
    site == Site::OffSite && settings.escrow.is_on()
}

/// The children that exist.
#[derive(Default)]
pub struct Existing {
    pub service_account: Option<Arc<ServiceAccount>>,
    pub config_map: Option<Arc<ConfigMap>>,
    pub tls: Option<Arc<PartialObjectMeta<Secret>>>,
    pub network_policy: Option<Arc<NetworkPolicy>>,
    /// The escrowed keys; they are the keyring's controller's.
    pub escrow: Option<Arc<PartialObjectMeta<Secret>>>,
    pub cron_jobs: BTreeMap<Which, Arc<CronJob>>,
}

impl Existing {
    /// Those of a connection, as the stores know them.
    pub fn load(stores: &Stores, namespace: &str, names: Names<'_>) -> Self {
        let backup = names.backup();
        let cron_job = |which: Which| {
            let reference = ObjectRef::new(&names.cron_job(which.0, which.1)).within(namespace);
            Some((which, stores.cron_jobs.get(&reference)?))
        };
        let tls = stores.secrets.get(&ObjectRef::new(&names.backup_tls()).within(namespace));
        Self {
            service_account: stores.service_accounts.get(&ObjectRef::new(&backup).within(namespace)),
            config_map: stores.config_maps.get(&ObjectRef::new(&backup).within(namespace)),
            // All Secrets are watched, those of others too.
            tls: tls.filter(|secret| {
                secret.labels().get(labels::MANAGED_BY).is_some_and(|by| by == labels::OPERATOR)
            }),
            escrow: stores
                .secrets
                .get(&ObjectRef::new(&names.escrow()).within(namespace))
                .filter(|secret| is_escrow(secret.as_ref())),
            network_policy: stores.network_policies.get(&ObjectRef::new(&backup).within(namespace)),
            cron_jobs: cron_jobs().filter_map(cron_job).collect(),
        }
    }
}

/// What is wanted of a child.
pub enum Child<K> {
    /// To be like this.
    Wanted(K),
    /// To be as it is: nothing is wrong with it, or what is wanted can't be carried out.
    Kept,
    /// Not to be.
    Unwanted,
}

/// The children that are wanted.
pub struct Prepared {
    pub service_account: Child<ServiceAccount>,
    pub config_map: Child<ConfigMap>,
    pub tls: Child<Secret>,
    pub network_policy: Child<NetworkPolicy>,
    pub cron_jobs: Vec<(Which, Child<CronJob>)>,
}

impl Prepared {
    fn unwanted() -> Self {
        Self {
            service_account: Child::Unwanted,
            config_map: Child::Unwanted,
            tls: Child::Unwanted,
            network_policy: Child::Unwanted,
            cron_jobs: cron_jobs().map(|which| (which, Child::Unwanted)).collect(),
        }
    }

    /// No site can be carried out; those that aren't asked for any more go all the same.
    fn kept(wanted: &Wanted) -> Self {
        let child = |site| if wanted.site(site).is_some() { Child::Kept } else { Child::Unwanted };
        Self {
            service_account: Child::Kept,
            config_map: Child::Kept,
            tls: Child::Kept,
            network_policy: Child::Kept,
            cron_jobs: cron_jobs().map(|which| (which, child(which.0))).collect(),
        }
    }
}

/// Builds them. What belongs to a site that can't be carried out is left as it is.
pub fn prepare(
    plan: &Plan<'_>,
    existing: &Existing,
    authority: &Authority,
    now: Timestamp,
) -> Result<Prepared, PkiError> {
    let Some(wanted) = plan.backups else { return Ok(Prepared::unwanted()) };
    let can_be = wanted.stores().next().is_some();
    let Some(settings) = plan.config.backup.as_ref().filter(|_| can_be) else {
        return Ok(Prepared::kept(wanted));
    };
    let metadata = plan.owned(plan.names().backup_tls(), labels::BACKUP);
    let tls = tls_secret::build(metadata, &Subject::Backup, existing.tls.as_deref(), authority, now)?;
    let cron_job = |(site, task): Which| match wanted.site(site) {
        None => Child::Unwanted,
        Some(_) if task == Task::Escrow && !is_escrowed(settings, site) => Child::Unwanted,
        Some(Err(_)) => Child::Kept,
        Some(Ok(_)) if task == Task::Drill && plan.public_key.is_none() => Child::Kept,
        Some(Ok(store)) => {
            Child::Wanted(cron_job::build(plan, settings, wanted.suspend, store, (site, task)))
        }
    };
    Ok(Prepared {
        service_account: Child::Wanted(service_account::build(plan)),
        config_map: Child::Wanted(config_map::build(plan, settings, wanted, existing.config_map.as_deref())),
        tls: tls.map_or(Child::Kept, Child::Wanted),
        network_policy: Child::Wanted(network_policy::build(plan, wanted)),
        cron_jobs: cron_jobs().map(|which| (which, cron_job(which))).collect(),
    })
}
