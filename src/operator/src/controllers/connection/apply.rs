//! Server-side apply of what differs.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use marketrelay_api::{Reason, labels};
use serde::{Serialize, de::DeserializeOwned};
use snafu::{ResultExt, Snafu, ensure};

use super::children::{
    Children, Prepared,
    backup::{self, Child},
};
use crate::{compare::holds, problem::Problem, secrets::wipe};

/// Why a child can't be applied.
#[derive(Debug, Snafu)]
pub enum ApplyError {
    #[snafu(display("{kind} {name}: {source}"))]
    Api { kind: String, name: String, source: kube::Error },
    #[snafu(display("{kind} {name} belongs to somebody else"))]
    Taken { kind: String, name: String },
}

/// Another try may succeed: a concurrent change, a busy or absent API server.
pub fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 409 | 429 | 500..=599),
        _ => true,
    }
}

impl ApplyError {
    /// Another try may succeed: nothing is wrong with what the user wrote.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_passing(source))
    }

    /// For the condition.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Api { kind, name, source } => api_problem(kind, name, source),
            Self::Taken { kind, name } => taken(kind, name),
        }
    }
}

/// What the API server's refusal of an object means for a person.
pub fn api_problem(kind: &str, name: &str, error: &kube::Error) -> Problem {
    let kube::Error::Api(status) = error else {
        let message = format!("{kind} {name} can't be written: {error}; it is tried again");
        return Problem::new(Reason::ApplyFailed, message);
    };
    let said = &status.message;
    let (reason, message) = match status.code {
        403 if said.contains("exceeded quota") => (
            Reason::QuotaExceeded,
            format!("{kind} {name}: {said}: raise the namespace's ResourceQuota or remove what isn't needed"),
        ),
        403 => (
            Reason::Forbidden,
            format!(
                "{kind} {name}: {said}: compare the operator's RBAC with the chart's and look at admission policies"
            ),
        ),
        _ => (Reason::ApplyFailed, format!("{kind} {name} isn't accepted: {said}")),
    };
    Problem::new(reason, message)
}

fn taken(kind: &str, name: &str) -> Problem {
    let message = format!(
        "{kind} {name} exists and belongs to somebody else: delete or rename it, or choose another name for the \
         connection"
    );
    Problem::new(Reason::NameConflict, message)
}

/// The version of no object: an apply with it creates, and conflicts with whatever is there.
const NEW: &str = "1";

/// Applies what differs, the pod's needs before the pod. A relay that `waits` for its place in a roll-out keeps its
/// configuration and its pod: an older image need not understand newer ones. Nothing is written from the moment on at which
/// `is_over` says so. Says how many were written.
pub async fn apply(
    client: &Client,
    prepared: Prepared,
    existing: &Children,
    waits: bool,
    is_over: &(dyn Fn() -> bool + Send + Sync),
) -> Result<usize, ApplyError> {
    let Prepared {
        service_account,
        config_map,
        tls,
        claim,
        service,
        network_policy,
        stateful_set,
        config_digest: _,
    } = prepared;
    let mut applier = Applier { client, is_over, written: 0 };
    applier.ensure(&service_account, existing.service_account.as_ref()).await?;
    if !waits {
        applier.ensure(&config_map, existing.config_map.as_ref()).await?;
    }
    if let Some(mut tls) = tls {
        let ours = existing.tls.as_ref().is_some_and(|existing| is_ours(existing.as_ref(), &tls));
        applier.write(&tls, ours).await?;
        wipe(&mut tls);
    }
    applier.ensure(&claim, existing.claim.as_ref()).await?;
    applier.ensure(&service, existing.service.as_ref()).await?;
    applier.ensure(&network_policy, existing.network_policy.as_ref()).await?;
    if !waits {
        applier.ensure(&stateful_set, existing.stateful_set.as_ref()).await?;
    }
    Ok(applier.written)
}

/// The same for what takes backups; deletes what isn't wanted any more.
pub async fn apply_backups(
    client: &Client,
    prepared: backup::Prepared,
    existing: &backup::Existing,
    is_over: &(dyn Fn() -> bool + Send + Sync),
) -> Result<usize, ApplyError> {
    let backup::Prepared { service_account, config_map, tls, network_policy, cron_jobs } = prepared;
    let mut applier = Applier { client, is_over, written: 0 };
    applier.settle(service_account, existing.service_account.as_ref()).await?;
    applier.settle(config_map, existing.config_map.as_ref()).await?;
    match (tls, &existing.tls) {
        (Child::Wanted(mut tls), existing) => {
            applier.write(&tls, existing.is_some()).await?;
            wipe(&mut tls);
        }
        (Child::Unwanted, Some(existing)) => applier.delete::<Secret>(existing.as_ref()).await?,
        (Child::Unwanted, None) | (Child::Kept, _) => {}
    }
    applier.settle(network_policy, existing.network_policy.as_ref()).await?;
    for (which, cron_job) in cron_jobs {
        applier.settle(cron_job, existing.cron_jobs.get(&which)).await?;
    }
    Ok(applier.written)
}

struct Applier<'a> {
    client: &'a Client,
    is_over: &'a (dyn Fn() -> bool + Send + Sync),
    written: usize,
}

impl Applier<'_> {
    async fn ensure<K>(&mut self, wanted: &K, existing: Option<&Arc<K>>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        let same = existing.is_some_and(|existing| {
            let value = |object: &K| serde_json::to_value(object).unwrap_or_default();
            is_leaving(existing.as_ref())
                || holds(&value(wanted), &value(existing)) && !has_stale_annotation(wanted, existing.as_ref())
        });
        if same { Ok(()) } else { self.write(wanted, existing.is_some()).await }
    }

    async fn settle<K>(&mut self, child: Child<K>, existing: Option<&Arc<K>>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        match (child, existing) {
            (Child::Wanted(wanted), existing) => self.ensure(&wanted, existing).await,
            (Child::Unwanted, Some(existing)) => self.delete::<K>(existing.as_ref()).await,
            (Child::Unwanted, None) | (Child::Kept, _) => Ok(()),
        }
    }

    /// With what belongs to it, such as a CronJob's Jobs.
    async fn delete<K>(&mut self, existing: &impl ResourceExt) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: DeserializeOwned + Clone + Debug,
    {
        if (self.is_over)() || is_leaving(existing) {
            return Ok(());
        }
        let (namespace, name) = (existing.namespace().unwrap_or_default(), existing.name_any());
        let kind = K::kind(&()).into_owned();
        tracing::info!(namespace, %kind, name, "isn't wanted any more");
        let this = Preconditions { uid: existing.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::background() };
        match Api::<K>::namespaced(self.client.clone(), &namespace).delete(&name, &params).await {
            // Gone already, or another one by now.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
            deleted => drop(deleted.context(ApiSnafu { kind, name })?),
        }
        self.written += 1;
        Ok(())
    }

    /// Takes over fields that others changed, but never an object that isn't ours.
    async fn write<K>(&mut self, wanted: &K, ours: bool) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        if (self.is_over)() {
            return Ok(());
        }
        let namespace = wanted.namespace().unwrap_or_default();
        let name = wanted.name_any();
        let api = Api::<K>::namespaced(self.client.clone(), &namespace);
        let kind = K::kind(&()).into_owned();
        tracing::info!(namespace, %kind, name, "applying");
        let mut result = if ours { force(&api, wanted).await } else { make(&api, wanted).await };
        if !ours && is_conflict(&result) {
            let existing = api.get_metadata(&name).await;
            let existing = existing.with_context(|_| ApiSnafu { kind: kind.clone(), name: name.clone() })?;
            ensure!(is_ours(&existing, wanted), TakenSnafu { kind, name });
            result = force(&api, wanted).await;
        }
        result.context(ApiSnafu { kind, name })?;
        self.written += 1;
        Ok(())
    }
}

async fn force<K>(api: &Api<K>, wanted: &K) -> kube::Result<()>
where
    K: Serialize + DeserializeOwned + Clone + Debug + ResourceExt,
{
    let params = PatchParams::apply(labels::OPERATOR).force();
    api.patch(&wanted.name_any(), &params, &Patch::Apply(wanted)).await.map(drop)
}

async fn make<K>(api: &Api<K>, wanted: &K) -> kube::Result<()>
where
    K: Serialize + DeserializeOwned + Clone + Debug + ResourceExt,
{
    let mut new = wanted.clone();
    new.meta_mut().resource_version = Some(NEW.to_owned());
    api.patch(&wanted.name_any(), &PatchParams::apply(labels::OPERATOR), &Patch::Apply(&new)).await.map(drop)
}

fn is_conflict(result: &kube::Result<()>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists())
}

/// Made before the stores have seen it, or stripped of the label that they go by.
fn is_ours(existing: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    let carries = |label| existing.labels().get(label) == wanted.labels().get(label);
    let applied = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(labels::OPERATOR);
    carries(labels::MANAGED_BY) && carries(labels::CONNECTION)
        || existing.managed_fields().iter().any(applied)
}

/// Somebody deleted it and it isn't gone yet; it is made anew afterwards.
pub fn is_leaving(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Comparing sees only what is wanted; of what was wanted once, only this annotation ever goes.
fn has_stale_annotation(wanted: &impl ResourceExt, existing: &impl ResourceExt) -> bool {
    existing.annotations().contains_key(labels::REVISION_SINCE)
        && !wanted.annotations().contains_key(labels::REVISION_SINCE)
}
