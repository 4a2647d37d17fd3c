//! From a decision to the Secret: read, decided again on what was read, replaced with the version that was read.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams};
use snafu::ResultExt;

use super::{Metadata, ReadSnafu, ReconcileError, ReplaceSnafu, kind::Kind};
use crate::{controllers::connection::Context, secrets::wipe};

/// Steps of one Secret at a time, those included that somebody else's write undid.
const STEPS: usize = 12;

/// Goes on until nothing is to be done. Nothing is read while what is known of the newest version calls for no step.
/// `None`: the Secret is gone.
pub async fn settle<K: Kind>(
    context: &Context,
    watched: &Metadata,
    decide: fn(&K::Held, &K::Seen) -> Option<K::Step>,
) -> Result<Option<K::Held>, ReconcileError> {
    let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
    let (client, secrets) = (&context.dated, &context.stores.secrets);
    let known =
        K::known(context).get(client, secrets, &namespace, &name, K::judge).await.context(ReadSnafu)?;
    let Some(mut held) = known else { return Ok(None) };
    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    for _ in 0..STEPS {
        if decide(&held, &K::seen(context, watched, &held)).is_none() {
            return Ok(Some(held));
        }
        match step::<K>(context, &api, watched, decide).await? {
            Some(newer) => held = newer,
            None => return Ok(None),
        }
    }
    super::ContendedSnafu.fail()
}

/// One step of the newest version, or none if it turns out to need none.
async fn step<K: Kind>(
    context: &Context,
    api: &Api<Secret>,
    watched: &Metadata,
    decide: fn(&K::Held, &K::Seen) -> Option<K::Step>,
) -> Result<Option<K::Held>, ReconcileError> {
    let name = watched.name_any();
    let Some(mut secret) = api.get_opt(&name).await.context(ReadSnafu)? else { return Ok(None) };
    let held = K::judge(&secret);
    // The answer has brought the API server's time along.
    let now = K::seen(context, watched, &held);
    let Some(step) = decide(&held, &now) else {
        wipe(&mut secret);
        K::known(context).note(&secret, held.clone());
        return Ok(Some(held));
    };
    let changed = K::change(&mut secret, &step, &now);
    if changed.is_err() {
        wipe(&mut secret);
    }
    let made = changed?;
    let replaced = api.replace(&name, &PostParams::default(), &secret).await;
    wipe(&mut secret);
    match replaced {
        Ok(mut replaced) => {
            let after = K::judge(&replaced);
            wipe(&mut replaced);
            K::known(context).note(&replaced, after.clone());
            K::done(context, watched, &step, made, &held).await;
            Ok(Some(after))
        }
        // Somebody else was first: what they left is looked at anew.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Some(held)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => {
            K::failed(watched, &step, &held, &error);
            Err(error).context(ReplaceSnafu)
        }
    }
}
