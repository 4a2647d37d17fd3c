//! Server-side apply of what differs.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use marketrelay_api::{Reason, labels};
use serde::{Serialize, de::DeserializeOwned};
use snafu::{ResultExt, Snafu};

use super::children::{Children, Prepared};
use crate::{compare::holds, problem::Problem};

/// Why a child can't be applied.
#[derive(Debug, Snafu)]
pub enum ApplyError {
    #[snafu(display("{kind} {name}: {source}"))]
    Api { kind: String, name: String, source: kube::Error },
}

impl ApplyError {
    /// For the condition.
    pub fn problem(&self) -> Problem {
        let Self::Api { kind, name, source } = self;
        api_problem(kind, name, source)
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
        409 => (
            Reason::NameConflict,
            format!(
                "{kind} {name} exists and belongs to somebody else ({said}): delete or rename it, or choose another \
                 name for the connection"
            ),
        ),
        _ => (Reason::ApplyFailed, format!("{kind} {name} isn't accepted: {said}")),
    };
    Problem::new(reason, message)
}

/// How many children were written.
#[derive(Debug, Default)]
pub struct Applied {
    /// Children that differed.
    pub written: usize,
}

/// Applies what differs, the pod's needs before the pod.
pub async fn apply(client: &Client, prepared: Prepared, existing: &Children) -> Result<Applied, ApplyError> {
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
    let mut applied = Applied::default();
    applied.ensure(client, &service_account, existing.service_account.as_ref()).await?;
    applied.ensure(client, &config_map, existing.config_map.as_ref()).await?;
    if let Some(tls) = tls {
        applied.write(client, &tls, existing.tls.is_some()).await?;
        wipe(tls);
    }
    applied.ensure(client, &claim, existing.claim.as_ref()).await?;
    applied.ensure(client, &service, existing.service.as_ref()).await?;
    applied.ensure(client, &network_policy, existing.network_policy.as_ref()).await?;
    applied.ensure(client, &stateful_set, existing.stateful_set.as_ref()).await?;
    Ok(applied)
}

fn wipe(mut secret: Secret) {
    crate::secrets::wipe(&mut secret);
}

impl Applied {
    async fn ensure<K>(
        &mut self,
        client: &Client,
        wanted: &K,
        existing: Option<&Arc<K>>,
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        let same = existing.is_some_and(|existing| {
            let value = |object: &K| serde_json::to_value(object).unwrap_or_default();
            is_leaving(existing.as_ref())
                || holds(&value(wanted), &value(existing)) && !has_stale_annotation(wanted, existing.as_ref())
        });
        if same { Ok(()) } else { self.write(client, wanted, existing.is_some()).await }
    }

    /// Takes over fields that others changed, but never an object that isn't known to be ours.
    async fn write<K>(&mut self, client: &Client, wanted: &K, ours: bool) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        let namespace = wanted.namespace().unwrap_or_default();
        let name = wanted.name_any();
        let params = PatchParams { force: ours, ..PatchParams::apply(labels::OPERATOR) };
        let api = Api::<K>::namespaced(client.clone(), &namespace);
        let kind = K::kind(&()).into_owned();
        tracing::info!(namespace, %kind, name, "applying");
        let result = api.patch(&name, &params, &Patch::Apply(wanted)).await;
        result.context(ApiSnafu { kind, name })?;
        self.written += 1;
        Ok(())
    }
}

/// Somebody deleted it and it isn't gone yet; it is made anew afterwards.
fn is_leaving(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Comparing sees only what is wanted; of what was wanted once, only this annotation ever goes.
fn has_stale_annotation(wanted: &impl ResourceExt, existing: &impl ResourceExt) -> bool {
    existing.annotations().contains_key(labels::IMAGE_SINCE)
        && !wanted.annotations().contains_key(labels::IMAGE_SINCE)
}
