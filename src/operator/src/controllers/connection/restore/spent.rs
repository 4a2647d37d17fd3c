//! Jobs of restores that have ended: their pods count as users of the volume, and a claim that is deleted waits for them.

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{MarketplaceConnection, connection::RestoreStatus, labels};

use super::{Context, job_name, under_way};
use crate::controllers::{
    backup::{Stage, stage},
    connection::{
        apply::is_leaving,
        children::{Children, restore::TASK},
    },
};

/// Deletes those that the status has learnt everything from, with their pods. The failed one that it tells of stays for its log,
/// until the claim is being deleted.
pub async fn clear(context: &Context, connection: &MarketplaceConnection, children: &Children) {
    let restore = connection.status.as_ref().and_then(|status| status.restore.as_ref());
    let current = under_way(restore).map(|current| job_name(connection, current));
    let is_in_the_way = children.claim.as_deref().is_some_and(is_leaving);
    let (jobs, _) = context.stores.jobs(&ObjectRef::from_obj(connection));
    for job in jobs {
        let is_ours = job.labels().get(labels::TASK).is_some_and(|task| task == TASK.0) && !is_leaving(&*job);
        if is_ours && is_spent(&job, restore, current.as_deref(), is_in_the_way) {
            delete(context, &job).await;
        }
    }
}

fn is_spent(job: &Job, restore: Option<&RestoreStatus>, current: Option<&str>, is_in_the_way: bool) -> bool {
    let Stage::Ended(end) = stage(job) else { return false };
    let name = job.name_any();
    // Its report is still to be read.
    if current == Some(name.as_str()) {
        return false;
    }
    let told_of = restore.and_then(|restore| restore.last_failure.as_ref());
    let has_log_to_read = match restore {
        Some(_) => told_of.is_some_and(|failure| failure.job == name),
        None => end.failure.is_some(),
    };
    is_in_the_way || !has_log_to_read
}

async fn delete(context: &Context, job: &Job) {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let this = Preconditions { uid: job.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(this), ..DeleteParams::background() };
    match Api::<Job>::namespaced(context.client.clone(), &namespace).delete(&name, &params).await {
        Ok(_) => tracing::info!(namespace, name, "a Job of a restore has ended, and is deleted"),
        // Gone already, or another one by now.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => {
            tracing::warn!(namespace, name, %error, "a Job of a restore is deleted with the next look");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use marketrelay_api::connection::{JobResult, RestoreCause};
    use serde_json::json;

    use super::*;
    use crate::conditions::seconds;

    fn job(name: &str, end: Option<&str>) -> Job {
        let conditions = end.map_or_else(Vec::new, |kind| vec![json!({"type": kind, "status": "True"})]);
        let value = json!({"metadata": {"name": name}, "spec": {"template": {}}, "status": {"conditions": conditions}});
        serde_json::from_value(value).expect("a Job")
    }

    fn told(failed: Option<&str>) -> RestoreStatus {
        let at = seconds(Timestamp::UNIX_EPOCH);
        let failure = |job: &str| JobResult {
            job: job.to_owned(),
            finished_at: at.clone(),
            reason: Some("StoreRefused".to_owned()),
            message: None,
        };
        RestoreStatus {
            since: at.clone(),
            cause: RestoreCause::VolumeEmpty,
            asked: None,
            done: None,
            failures: 0,
            last_failure: failed.map(failure),
            finished_at: None,
            restored: None,
        }
    }

    #[test]
    fn a_job_goes_once_its_report_is_known_and_a_failed_one_once_another_failed_or_the_claim_goes() {
        let (fine, told_of, silent) = (told(None), told(Some("j")), None);
        for (what, end, restore, current, is_in_the_way, expected) in [
            ("it runs", None, Some(&fine), None, true, false),
            ("its report isn't read", Some("Complete"), Some(&fine), Some("j"), true, false),
            ("it has succeeded", Some("Complete"), Some(&fine), None, false, true),
            ("it failed lately", Some("Failed"), Some(&told_of), Some("next"), false, false),
            ("the claim goes", Some("Failed"), Some(&told_of), Some("next"), true, true),
            ("a newer one is told of", Some("Failed"), Some(&fine), Some("next"), false, true),
            ("it was withdrawn", Some("Failed"), silent, None, false, false),
            ("it was withdrawn, the claim goes", Some("Failed"), silent, None, true, true),
        ] {
            assert_eq!(is_spent(&job("j", end), restore, current, is_in_the_way), expected, "{what}");
        }
    }
}
