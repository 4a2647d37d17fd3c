//! From a decision to the Secret: read, decided again on what was read, replaced with the version that was read.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams};
use snafu::ResultExt;

use super::{
    Metadata, ReadSnafu, ReconcileError, ReplaceSnafu,
    change::change,
    decide::{Seen, Step},
    facts::{Held, judge},
    report, seen,
};
use crate::{controllers::connection::Context, secrets::wipe};

/// Steps of one keyring at a time, those included that somebody else's write undid.
const STEPS: usize = 8;

/// Goes on until nothing is to be done. Nothing is read while what is known of the newest version calls for no step.
/// `None`: the Secret is gone.
pub async fn settle(
    context: &Context,
    keyring: &Metadata,
    decide: fn(&Held, &Seen) -> Option<Step>,
) -> Result<Option<Held>, ReconcileError> {
    let (namespace, name) = (keyring.namespace().unwrap_or_default(), keyring.name_any());
    let (client, secrets) = (&context.dated, &context.stores.secrets);
    let known = context.keyrings.get(client, secrets, &namespace, &name, judge).await.context(ReadSnafu)?;
    let Some(mut held) = known else { return Ok(None) };
    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    for _ in 0..STEPS {
        if decide(&held, &seen(context, keyring, &held)).is_none() {
            return Ok(Some(held));
        }
        match step(context, &api, keyring, decide).await? {
            Some(newer) => held = newer,
            None => return Ok(None),
        }
    }
    super::ContendedSnafu.fail()
}

/// One step of the newest version, or none if it turns out to need none.
async fn step(
    context: &Context,
    api: &Api<Secret>,
    keyring: &Metadata,
    decide: fn(&Held, &Seen) -> Option<Step>,
) -> Result<Option<Held>, ReconcileError> {
    let name = keyring.name_any();
    let Some(mut secret) = api.get_opt(&name).await.context(ReadSnafu)? else { return Ok(None) };
    let held = judge(&secret);
    // The answer has brought the API server's time along.
    let now = seen(context, keyring, &held);
    let Some(step) = decide(&held, &now) else {
        wipe(&mut secret);
        context.keyrings.note(&secret, held.clone());
        return Ok(Some(held));
    };
    let changed = change(&mut secret, &step, &now);
    if changed.is_err() {
        wipe(&mut secret);
    }
    let made = changed?;
    let replaced = api.replace(&name, &PostParams::default(), &secret).await;
    wipe(&mut secret);
    match replaced {
        Ok(mut replaced) => {
            let after = judge(&replaced);
            wipe(&mut replaced);
            context.keyrings.note(&replaced, after.clone());
            report::done(context, keyring, &step, made, &held).await;
            Ok(Some(after))
        }
        // Somebody else was first: what they left is looked at anew.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Some(held)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => {
            report::failed(keyring, &step, &held, &error);
            Err(error).context(ReplaceSnafu)
        }
    }
}
