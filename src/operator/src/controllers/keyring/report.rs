//! What was done is told: an audit record for each key, figures, and an event where it concerns a person.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{
    Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::events::{Event, EventType},
};
use marketrelay_api::labels;
use marketrelay_keyring::{BackupKey, DestroyAt, Recipient};

use super::{
    Metadata,
    decide::Step,
    facts::{Held, connection},
};
use crate::{audit::Record, controllers::connection::Context};

/// A key that was destroyed this much after its time was destroyed late; a new leader takes over sooner.
pub const LATE: SignedDuration = SignedDuration::from_mins(1);

/// A step was written. `before`: what the keyring held then.
pub async fn done(context: &Context, keyring: &Metadata, step: &Step, made: usize, before: &Held) {
    let metrics = &context.metrics.keyrings;
    match step {
        Step::Destroy(keys) => {
            let keys: Vec<_> = keys.iter().map(|at| (at.to_string(), *at)).collect();
            destroyed(context, keyring, "EpochKeyDestroyed", "epoch", &keys).await;
        }
        Step::DestroyHolds(holds) => {
            let keys: Vec<_> = holds.iter().map(|hold| (hold.to_string(), hold.destroy_at())).collect();
            destroyed(context, keyring, "HoldKeyDestroyed", "hold", &keys).await;
        }
        Step::EndHold(hold) => {
            metrics.hold_ended();
            record(keyring, "HoldEndedEarly", &hold.to_string(), None, None);
        }
        Step::MoveHold(hold, until) => {
            record(keyring, "HoldMoved", &hold.moved(*until).to_string(), None, None);
        }
        Step::AddHold(hold) => record(keyring, "HoldKeyAdded", &hold.to_string(), None, None),
        Step::DropVolumeKeys(below) => {
            for generation in generations(before).filter(|generation| generation < below) {
                metrics.volume_key_destroyed();
                record(keyring, "VolumeKeyDestroyed", &format!("volume.{generation}"), None, None);
            }
        }
        Step::AddVolumeKey(_) => {
            let newest = generations(before).last().unwrap_or_default().saturating_add(1);
            record(keyring, "VolumeKeyAdded", &format!("volume.{newest}"), None, None);
        }
        Step::AddAuditKey => record(keyring, "AuditKeyAdded", "audit", None, None),
        Step::Confirm => record(keyring, "KeysEscrowed", "pending", None, None),
        Step::NoteDatabase(chain) => record(keyring, "DatabaseNoted", chain, None, None),
        Step::Extend(_) => {
            tracing::info!(keyring = %keyring.name_any(), namespace = keyring.namespace(), made, "keyring extended");
        }
        Step::SetRecipients(recipients) => withdrawn(context, keyring, before, recipients).await,
    }
}

/// Recipients whose identities can't open anything any more, though their time hasn't come.
async fn withdrawn(
    context: &Context,
    keyring: &Metadata,
    before: &Held,
    now: &BTreeMap<BackupKey, Recipient>,
) {
    let due = context.clock.now();
    let known = before.keyring.iter().flat_map(|facts| &facts.recipients);
    let lost = known.filter(|(name, to)| !name.destroy_at().is_due(due) && now.get(name) != Some(to));
    let lost: Vec<_> = lost.map(|(name, _)| name.to_string()).collect();
    for name in &lost {
        record(keyring, "BackupRecipientWithdrawn", name, None, None);
    }
    if !lost.is_empty() {
        let note = format!(
            "the identities of {} recipients in {} are gone or can't be used: backups that were encrypted to them can't be \
             opened, and none is made with them any more (docs/runbooks/conditions.md#backupidentitieslost)",
            lost.len(),
            keyring.name_any()
        );
        warn(context, keyring, "BackupIdentitiesLost", "WithdrawRecipients", note).await;
    }
    tracing::info!(
        keyring = %keyring.name_any(), namespace = keyring.namespace(), recipients = now.len(), "recipients follow identities"
    );
}

/// Identities are there.
pub fn identities_made(secret: &Secret, made: usize) {
    let metadata = PartialObjectMeta { metadata: secret.metadata.clone(), ..PartialObjectMeta::default() };
    record(&metadata, "BackupIdentitiesMade", &made.to_string(), None, None);
}

/// Keys are gone, by their entries and times.
pub async fn destroyed(
    context: &Context,
    keyring: &Metadata,
    action: &'static str,
    kind: &str,
    keys: &[(String, DestroyAt)],
) {
    let now = context.clock.now();
    for (entry, at) in keys {
        context.metrics.keyrings.destroyed(kind, late(*at, now).as_secs_f64());
        record(keyring, action, entry, None, Some((*at, now)));
    }
    let latest = keys.iter().map(|(_, at)| late(*at, now)).max().unwrap_or_default();
    if latest >= LATE {
        let late = SignedDuration::from_secs(latest.as_secs());
        let note = format!(
            "keys of {} were destroyed late ({}, up to {late:#} after their time): the operator wasn't at work then, or the \
             API server didn't take it (docs/runbooks/conditions.md#destructionlate)",
            keyring.name_any(),
            keys.len()
        );
        warn(context, keyring, "KeyDestroyedLate", "DestroyKey", note).await;
    }
}

/// The API server refused to have a key destroyed.
pub fn refused(secret: &Metadata, action: &'static str, key: &str, error: &kube::Error) {
    record(secret, action, key, Some(&error.to_string()), None);
}

/// The API server refused a step.
pub fn failed(keyring: &Metadata, step: &Step, before: &Held, error: &kube::Error) {
    let failed = |action: &'static str, key: &str| refused(keyring, action, key, error);
    match step {
        Step::Destroy(keys) => keys.iter().for_each(|at| failed("EpochKeyDestroyed", &at.to_string())),
        Step::DestroyHolds(holds) => {
            for hold in holds {
                failed("HoldKeyDestroyed", &hold.to_string());
            }
        }
        Step::EndHold(hold) => failed("HoldEndedEarly", &hold.to_string()),
        Step::DropVolumeKeys(below) => generations(before)
            .filter(|generation| generation < below)
            .for_each(|generation| failed("VolumeKeyDestroyed", &format!("volume.{generation}"))),
        Step::MoveHold(..)
        | Step::AddHold(_)
        | Step::AddVolumeKey(_)
        | Step::AddAuditKey
        | Step::Confirm
        | Step::NoteDatabase(_)
        | Step::SetRecipients(_)
        | Step::Extend(_) => {}
    }
}

fn generations(held: &Held) -> impl Iterator<Item = u32> + '_ {
    held.keyring.iter().flat_map(|facts| facts.generations.iter().copied())
}

fn late(at: DestroyAt, now: Timestamp) -> SignedDuration {
    Timestamp::from_second(at.as_second()).map_or(SignedDuration::ZERO, |at| now.duration_since(at))
}

fn record(
    keyring: &Metadata,
    action: &'static str,
    key: &str,
    error: Option<&str>,
    destroyed: Option<(DestroyAt, Timestamp)>,
) {
    let due = |at: DestroyAt| Timestamp::from_second(at.as_second()).ok();
    let destroyed = destroyed.and_then(|(at, now)| Some((due(at)?, late(at, now).as_secs_f64())));
    let record = Record {
        action,
        namespace: &keyring.namespace().unwrap_or_default(),
        kind: "Secret",
        name: &keyring.name_any(),
        detail: key,
        connection_id: keyring.labels().get(labels::CONNECTION_ID).map_or("", String::as_str),
        error,
        destroyed,
    };
    record.write();
}

/// An event at the connection, or at the Secret that it left behind.
async fn warn(context: &Context, secret: &Metadata, reason: &str, action: &str, note: String) {
    let connection = connection(secret).and_then(|of| context.stores.connections.get(&of));
    let object = connection.map_or_else(|| reference(secret), |connection| connection.object_ref(&()));
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note),
        action: action.to_owned(),
        secondary: None,
    };
    context.events.publish(&event, &object).await;
}

fn reference(keyring: &Metadata) -> ObjectReference {
    Secret { metadata: keyring.metadata.clone(), ..Secret::default() }.object_ref(&())
}
