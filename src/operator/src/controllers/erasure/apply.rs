//! What a reconcile does to the world: the Secret becomes digests, and the relays are asked.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use marketrelay_api::{
    ErasureRequest, ErasureRequestStatus,
    erasure::ErasureState,
    relay::{Erasure, ErasureAnswer},
};
use snafu::ResultExt;

use super::{
    ChangedSnafu, ConsumeSnafu, ErasureError, StatusSnafu, status,
    validate::{Consume, Validated},
    write,
};
use crate::{audit::Record, controllers::connection::Context};

/// Relays of one request that are asked at the same time.
const AT_ONCE: usize = 8;

/// What each relay answered that did.
pub(super) type Answers = Vec<(String, ErasureAnswer)>;

/// Records the digests first and deletes the Secret then: an end between the two loses neither.
pub(super) async fn consume(
    context: &Context,
    request: &ErasureRequest,
    before: ErasureRequestStatus,
    validated: &Validated,
    now: Timestamp,
) -> Result<ErasureRequestStatus, ErasureError> {
    let Some(Consume { secret, is_fresh }) = &validated.consume else { return Ok(before) };
    let known = if *is_fresh {
        let known = status::known(request, before.clone(), validated, secret, now);
        write::write(context, request, &before, &known).await.context(StatusSnafu)?;
        known
    } else {
        before
    };
    let namespace = request.namespace().unwrap_or_default();
    let name = request.spec.subject.secret_ref.as_ref().map_or("", |reference| &reference.name);
    let version = Preconditions {
        uid: Some(secret.uid.clone()),
        resource_version: Some(secret.resource_version.clone()),
    };
    let params = DeleteParams { preconditions: Some(version), ..DeleteParams::default() };
    match Api::<Secret>::namespaced(context.client.clone(), &namespace).delete(name, &params).await {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() => return ChangedSnafu.fail(),
        deleted => {
            let refused = deleted.as_ref().err().map(ToString::to_string);
            let record = Record {
                action: "SubjectSecretDeleted",
                namespace: &namespace,
                kind: "Secret",
                name,
                detail: &request.uid().unwrap_or_default(),
                error: refused.as_deref(),
                ..Record::default()
            };
            record.write();
            drop(deleted.context(ConsumeSnafu)?);
        }
    }
    Ok(known)
}

/// Asks the relays that haven't confirmed yet.
pub(super) async fn ask(
    context: &Context,
    request: &ErasureRequest,
    known: &ErasureRequestStatus,
    validated: &Validated,
) -> Answers {
    let namespace = request.namespace().unwrap_or_default();
    let uid = request.uid().unwrap_or_default();
    let erasure = Erasure { subject: validated.subject.clone() };
    let confirmed =
        |name: &str| known.connections.iter().any(|at| at.name == name && at.state == ErasureState::Erased);
    let asked: Vec<_> = validated.connections.iter().filter(|name| !confirmed(name)).cloned().collect();
    let (namespace, uid, erasure) = (&namespace, &uid, &erasure);
    let ask = |name: String| async move {
        match context.relays.erase(namespace, &name, uid, erasure).await {
            Ok(answer) => Some((name, answer)),
            Err(error) => {
                tracing::debug!(namespace, connection = name, %error, "a relay doesn't erase");
                None
            }
        }
    };
    stream::iter(asked).map(ask).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}
