//! Erasure requests: from a subject to the confirmation of every relay.

mod apply;
mod load;
mod status;
mod subject;
mod validate;
mod write;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Api, ResourceExt, api::DeleteParams, api::Preconditions, runtime::controller::Action};
use marketrelay_api::{ErasureRequest, ErasureRequestStatus};
use snafu::{ResultExt, Snafu};

use super::{connection::Context, spread};
pub(crate) use load::digest_key;

/// What is finished is looked at this often, for its end.
const LONGEST: Duration = Duration::from_hours(24);
/// What is open is asked for at least this often.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Why a reconcile could not end; it is tried again.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ErasureError {
    #[snafu(display("reading: {source}"))]
    Load { source: kube::Error },
    #[snafu(display("writing the status: {source}"))]
    Status { source: kube::Error },
    #[snafu(display("deleting the subject's Secret: {source}"))]
    Consume { source: kube::Error },
    #[snafu(display("the subject's Secret changed while it was read"))]
    Changed,
    #[snafu(display("deleting the finished request: {source}"))]
    Expire { source: kube::Error },
}

impl ErasureError {
    /// A bounded name for the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Status { .. } => "status",
            Self::Consume { .. } | Self::Changed | Self::Expire { .. } => "apply",
        }
    }
}

/// Load, validate, consume the Secret, ask, status.
pub async fn reconcile(request: Arc<ErasureRequest>, context: Arc<Context>) -> Result<Action, ErasureError> {
    if request.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let before = request.status.clone().unwrap_or_default();
    if let Some(forgotten) = status::forgotten(&before, now) {
        write::write(&context, &request, &before, &forgotten).await.context(StatusSnafu)?;
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let restorable = load::restorable(&request, &context.stores);
    if let Some(wait) = remaining(&request, &before, restorable, now) {
        return expire(&request, &context, wait).await;
    }
    let loaded = load::load(&request, &before, &context).await.context(LoadSnafu)?;
    let validated = match validate::validate(&request, &before, &loaded) {
        Ok(validated) => validated,
        Err(problem) => {
            let refused = status::refused(&request, before.clone(), problem, now);
            write::write(&context, &request, &before, &refused).await.context(StatusSnafu)?;
            return Ok(Action::requeue(interval(&request, &context, now)));
        }
    };
    let known = apply::consume(&context, &request, before, &validated, now).await?;
    let answers = apply::ask(&context, &request, &known, &validated).await;
    let after = status::status(&request, &known, &validated, answers, now);
    write::write(&context, &request, &known, &after).await.context(StatusSnafu)?;
    Ok(match remaining(&request, &after, restorable, now) {
        Some(wait) => Action::requeue(wait.min(LONGEST)),
        None => Action::requeue(interval(&request, &context, now)),
    })
}

/// Of a finished request: how long nothing is to be done. A backup that is restored may hold what it erased, until the keys
/// of all copies are dead.
fn remaining(
    request: &ErasureRequest,
    status: &ErasureRequestStatus,
    restorable: bool,
    now: Timestamp,
) -> Option<Duration> {
    let left = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    let end = left(status.completed_at.as_ref()?.0 + request.spec.ttl_after_completion.as_signed());
    // That it still has its subject says that there were backups when it was completed.
    let is_kept = restorable || !status.digests.is_empty();
    let sealed = status.sealed_copies_until.as_ref().filter(|_| is_kept);
    let sealed = sealed.map_or(Duration::ZERO, |until| left(until.0));
    Some(if status.digests.is_empty() || sealed.is_zero() { end.max(sealed) } else { sealed })
}

async fn expire(request: &ErasureRequest, context: &Context, wait: Duration) -> Result<Action, ErasureError> {
    if !wait.is_zero() {
        return Ok(Action::requeue(wait.min(LONGEST)));
    }
    let namespace = request.namespace().unwrap_or_default();
    let api = Api::<ErasureRequest>::namespaced(context.client.clone(), &namespace);
    let this = Preconditions { uid: request.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
    match api.delete(&request.name_any(), &params).await {
        // Deleted already, and perhaps made anew.
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => {}
        deleted => drop(deleted.context(ExpireSnafu)?),
    }
    Ok(Action::await_change())
}

/// Until an open request is looked at again.
fn interval(request: &ErasureRequest, context: &Context, now: Timestamp) -> Duration {
    let made = request.creation_timestamp().map_or(now, |time| time.0);
    let age = Duration::try_from(now.duration_since(made)).unwrap_or_default();
    let look = Duration::from_secs(context.config.controller.status_interval_seconds.into());
    spread(pause(look, age))
}

/// The longer a request is open, the more there may be of its kind: those of a relay that is down for a day must not keep
/// others waiting.
fn pause(look: Duration, age: Duration) -> Duration {
    look.max((age / 60).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_request_is_asked_for_less_often_the_older_it_is() {
        let look = Duration::from_secs(20);
        for (age, pause) in [(0, 20), (1_200, 20), (6_000, 100), (86_400, 300)] {
            assert_eq!(super::pause(look, Duration::from_secs(age)), Duration::from_secs(pause), "{age}");
        }
    }
}
