//! What is told of a restore.

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::events::{Event, EventType},
};
use marketrelay_api::{
    MarketplaceConnection, Reason,
    backup::Restored,
    connection::{PinnedAudit, RestoreCause, RestoreStatus, RestoredBackup},
};

use super::{Context, decide::due, under_way};
use crate::{
    audit::Record,
    conditions::{Status, Verdict, seconds},
};

/// What it means for Ready; `None`: nothing is under way.
pub fn verdict(restore: Option<&RestoreStatus>) -> Option<Verdict> {
    let current = under_way(restore)?;
    let why = match current.cause {
        RestoreCause::VolumeEmpty => "the volume has no database, though there are backups",
        RestoreCause::Asked => "spec.restore asks for it",
    };
    let Some(failure) = &current.last_failure else {
        let message = format!(
            "a backup becomes the relay's database, since {why}; what the marketplace has told since is collected again \
             afterwards (kubectl get jobs -l marketrelay.dev/task=restore)"
        );
        return Some(Verdict::new(Status::False, Reason::Restoring, message));
    };
    let message = format!(
        "a backup is to become the relay's database, since {why}, and attempt {} failed: {}: {}; the volume is as it was, \
         and the next attempt is due at {} (kubectl logs job/{})",
        current.failures,
        failure.reason.as_deref().unwrap_or_default(),
        failure.message.as_deref().unwrap_or_default(),
        due(current),
        failure.job
    );
    Some(Verdict::new(Status::False, Reason::RestoreFailed, message))
}

/// The head that the restored log continues.
pub fn pinned(before: &PinnedAudit, restored: &Restored, now: Timestamp) -> PinnedAudit {
    PinnedAudit {
        chain: restored.audit.chain.clone(),
        sequence: i64::try_from(restored.audit.sequence).unwrap_or(i64::MAX),
        hash: restored.audit.hash.clone(),
        public_key: before.public_key.clone(),
        checked_at: seconds(now),
    }
}

/// An event and an audit record of a restore that has ended now.
pub async fn tell(context: &Context, connection: &MarketplaceConnection, backup: &RestoredBackup) {
    let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
    let status = connection.status.as_ref();
    let before = status.and_then(|status| status.audit.as_ref());
    let was =
        before.map_or_else(String::new, |audit| format!("; the audit log ended with {}", audit.sequence));
    let detail = format!("{} of {}{was}", backup.backup, backup.site);
    Record {
        action: "DatabaseRestored",
        namespace: &namespace,
        kind: "MarketplaceConnection",
        name: &name,
        connection_id: status.and_then(|status| status.connection_id.as_deref()).unwrap_or_default(),
        detail: &detail,
        ..Record::default()
    }
    .write();
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::Restored.to_string(),
        note: Some(note(backup).chars().take(1_000).collect()),
        action: "Restore".to_owned(),
        secondary: None,
    };
    context.events.publish(&event, &connection.object_ref(&())).await;
}

fn note(backup: &RestoredBackup) -> String {
    let RestoredBackup { backup: id, site, taken_at, orders, anonymised, erased, held, passed_over } = backup;
    let mut note = format!(
        "the relay's database is the {site} backup {id} now, taken at {}, with {orders} orders, of which {anonymised} were \
         anonymised and {erased} erased again; holds keep {held}; the marketplace's orders since then are collected again",
        taken_at.0
    );
    if !passed_over.is_empty() {
        note = format!("{note}; passed over: {}", passed_over.join("; "));
    }
    note
}
