//! A backup becomes the relay's database: by itself where the relay finds none, and on purpose (ADR 25).

mod attempt;
mod decide;
mod erasures;
mod known;
mod report;
mod spent;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{
    MarketplaceConnection, MarketplaceConnectionStatus, Reason,
    connection::{PinnedAudit, RestoreCause, RestoreStatus},
    labels,
    relay::paths::NO_DATABASE,
};

use super::{
    Context,
    apply::{api_problem, is_leaving, is_passing},
    backup::Wanted,
    children::{Children, Plan, restore as objects},
};
use crate::{
    controllers::{keyring::facts::KeyringFacts, record},
    names::Names,
    problem::Problem,
};
use attempt::Attempt;
use decide::{Facts, choice, due, was_taken_up};

pub use decide::under_way;
pub use erasures::{of as past_erasures, problem as erasures_problem};
pub use known::chain as known_chain;
pub use report::{reminder, tell, verdict};
pub use spent::clear;

/// What the status says of restores.
#[derive(Clone, Debug)]
pub struct Told {
    /// The last one.
    pub status: Option<RestoreStatus>,
    /// The end of the audit log that the restored database continues, if it is restored now.
    pub pinned: Option<PinnedAudit>,
    /// Stores that `spec.backup` named before, and that may have backups yet.
    pub left: Vec<String>,
}

/// Whether the relay must be at rest.
pub fn is_under_way(status: Option<&MarketplaceConnectionStatus>) -> bool {
    under_way(status.and_then(|status| status.restore.as_ref())).is_some()
}

/// What becomes of a restore that is asked for, needed or under way.
pub fn look(
    context: &Context,
    connection: &MarketplaceConnection,
    wanted: Option<&Wanted>,
    children: &Children,
    keyring: Option<&KeyringFacts>,
    now: Timestamp,
) -> Told {
    let status = connection.status.as_ref();
    let before = status.and_then(|status| status.restore.as_ref());
    let audit = known::audit(status, keyring);
    let attempt = under_way(before).map_or(Attempt::Missing, |current| {
        let (jobs, pods) = context.stores.jobs(&ObjectRef::from_obj(connection));
        Attempt::of(&job_name(connection, current), &jobs, &pods, now)
    });
    let is_given_up = audit.as_ref().is_some_and(|audit| known::is_given_up(connection, &audit.chain));
    let is_by_itself = under_way(before).is_some_and(|current| current.cause == RestoreCause::VolumeEmpty);
    let has_store = wanted.is_some_and(|wanted| wanted.stores().next().is_some());
    let after = decide::decide(&Facts {
        before,
        asked: connection.spec.restore.as_ref(),
        is_missing: children.pod.as_deref().is_some_and(misses_database) && !is_given_up,
        is_possible: audit.is_some() && has_store && !(is_given_up && is_by_itself),
        attempt: &attempt,
        now,
    });
    let pinned = match &attempt {
        Attempt::Restored(restored) => audit.map(|audit| report::pinned(&audit, restored, now)),
        _ => None,
    };
    Told { status: after, pinned, left: left(context, status) }
}

fn left(context: &Context, status: Option<&MarketplaceConnectionStatus>) -> Vec<String> {
    let id = status.and_then(|status| status.connection_id.as_ref());
    let record = id.and_then(|id| context.stores.records.get(&ObjectRef::new(id).within(&context.namespace)));
    record.and_then(|record| record.status.as_ref().map(record::with_backups_left)).unwrap_or_default()
}

/// What stands in the way of a restore that is asked for.
pub fn obstacle(
    connection: &MarketplaceConnection,
    wanted: Option<&Wanted>,
    keyring: Option<&KeyringFacts>,
) -> Option<Problem> {
    let status = connection.status.as_ref();
    let before = status.and_then(|status| status.restore.as_ref());
    let asked = connection.spec.restore.as_ref().filter(|asked| !was_taken_up(before, asked))?;
    let name = asked.backup.as_deref().unwrap_or("what spec.restore names");
    let message = if wanted.is_none_or(|wanted| wanted.stores().next().is_none()) {
        format!(
            "spec.restore: {name} can't be restored, since no site of spec.backup can be used: name the store that it is in"
        )
    } else if known::audit(status, keyring).is_none() {
        format!(
            "spec.restore: {name} can't be restored yet, since the relay hasn't told the key that signs its backups"
        )
    } else {
        return None;
    };
    Some(Problem::new(Reason::InvalidSpec, message))
}

/// Makes the Job of the attempt that is due, once the relay is gone from the volume.
pub async fn advance(
    context: &Context,
    plan: &Plan<'_>,
    connection: &MarketplaceConnection,
    children: &Children,
    keyring: &KeyringFacts,
    now: Timestamp,
) -> Result<(), Problem> {
    let status = connection.status.as_ref();
    let Some(current) = under_way(status.and_then(|status| status.restore.as_ref())) else { return Ok(()) };
    if decide::is_changed(current, connection.spec.restore.as_ref()) {
        return Ok(());
    }
    let audit = known::audit(status, Some(keyring));
    let (Some(settings), Some(wanted), Some(audit)) = (&plan.config.backup, plan.backups, &audit) else {
        return Ok(());
    };
    // A pod on a claim that is being deleted would never start.
    let has_claim = children.claim.as_deref().is_some_and(|claim| !is_leaving(claim));
    let is_possible = wanted.stores().next().is_some() && has_claim;
    if !is_possible || !children.is_at_rest() || now < due(current) {
        return Ok(());
    }
    let name = job_name(connection, current);
    let attempt = objects::Attempt {
        name: &name,
        choice: choice(current),
        replace: current.cause == RestoreCause::Asked,
        public_key: &audit.public_key,
        chain: Some(audit.chain.as_str()).filter(|chain| *chain != labels::UNKNOWN_DATABASE),
    };
    let begun = begin(context, plan, settings, wanted, attempt).await;
    match begun {
        Err(error) if is_passing(&error) => {
            tracing::warn!(name, %error, "a restore is begun with the next look");
            Ok(())
        }
        begun => begun.map_err(|error| api_problem("Job", &name, &error)),
    }
}

/// The Job is made once; the ConfigMap also if the operator ended in between.
async fn begin(
    context: &Context,
    plan: &Plan<'_>,
    settings: &marketrelay_api::operator_config::BackupSettings,
    wanted: &Wanted,
    attempt: objects::Attempt<'_>,
) -> kube::Result<()> {
    let (namespace, name) = (&plan.validated.namespace, attempt.name);
    if context.stores.config_maps.get(&ObjectRef::new(name).within(namespace)).is_some() {
        return Ok(());
    }
    let jobs = Api::<Job>::namespaced(context.client.clone(), namespace);
    let job = objects::job(plan, settings, wanted, &attempt);
    let made = match jobs.create(&PostParams::default(), &job).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            // Made before the stores have seen it, or before an operator ended.
            let Some(known) = context.stores.jobs.get(&ObjectRef::new(name).within(namespace)) else {
                return Ok(());
            };
            known
        }
        made => {
            tracing::info!(namespace, name, "a backup is to be restored");
            Arc::new(made?)
        }
    };
    let config = objects::config_map(plan, wanted, attempt, &made);
    let params = PatchParams::apply(labels::OPERATOR).force();
    let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    config_maps.patch(&config.name_any(), &params, &Patch::Apply(&config)).await.map(drop)
}

fn job_name(connection: &MarketplaceConnection, current: &RestoreStatus) -> String {
    Names(&connection.name_any()).restore(current.since.0, current.failures)
}

/// As its exit code says.
fn misses_database(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let relay = statuses.and_then(|statuses| statuses.iter().find(|status| status.name == "relay"));
    let states = relay.into_iter().flat_map(|relay| [relay.state.as_ref(), relay.last_state.as_ref()]);
    // One that runs has found its database.
    let mut states = states.flatten().take_while(|state| state.running.is_none());
    let newest = states.find_map(|state| state.terminated.as_ref());
    newest.is_some_and(|ended| ended.exit_code == i32::from(NO_DATABASE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_relay_without_its_database_is_known_by_its_exit_code() {
        let pod = |state: &Value, last: &Value| {
            let value = json!({"metadata": {"name": "bol-relay-0"}, "status": {"containerStatuses": [{
                "name": "relay", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": state, "lastState": last}]}});
            misses_database(&serde_json::from_value(value).expect("a pod"))
        };
        let ended = |code: u8| json!({"terminated": {"exitCode": code}});
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert!(pod(&ended(66), &Value::Null));
        assert!(pod(&waits, &ended(66)));
        assert!(!pod(&waits, &ended(1)));
        assert!(!pod(&ended(1), &ended(66)), "it has found one since");
        assert!(!pod(&json!({"running": {}}), &ended(66)), "it has found one");
    }
}
