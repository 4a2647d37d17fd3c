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
    labels,
};

use super::{
    Context, Told,
    decide::{due, refused, was_taken_up},
    under_way,
};
use crate::{
    audit::Record,
    conditions::{Status, Verdict, seconds},
};

/// What it means for Ready; `None`: nothing is under way, and nothing that is asked for was refused.
pub fn verdict(connection: &MarketplaceConnection, told: &Told) -> Option<Verdict> {
    let restore = told.status.as_ref();
    let namespace = connection.namespace().unwrap_or_default();
    if let Some(failure) = refused(restore) {
        let message = format!(
            "spec.restore: {}: {}; nothing was restored, the relay goes on with the database that it has, and it isn't tried \
             again: name a backup that there is, or remove spec.restore (kubectl -n {namespace} logs job/{})",
            failure.reason.as_deref().unwrap_or_default(),
            failure.message.as_deref().unwrap_or_default(),
            failure.job
        );
        return Some(Verdict::new(Status::False, Reason::RestoreFailed, message));
    }
    let current = under_way(restore)?;
    let why = match current.cause {
        RestoreCause::VolumeEmpty => "the volume has no database, though the connection had one",
        RestoreCause::Asked => "spec.restore asks for it",
    };
    let Some(failure) = &current.last_failure else {
        let message = format!(
            "a backup becomes the relay's database, since {why}; what the marketplace has told since is collected again \
             afterwards (kubectl -n {namespace} get jobs -l marketrelay.dev/task=restore)"
        );
        return Some(Verdict::new(Status::False, Reason::Restoring, message));
    };
    let message = format!(
        "a backup is to become the relay's database, since {why}, and attempt {} failed: {}: {}; the volume is as it was, \
         and the next attempt is due at {} (kubectl -n {namespace} logs job/{}){}",
        current.failures,
        failure.reason.as_deref().unwrap_or_default(),
        failure.message.as_deref().unwrap_or_default(),
        due(current),
        failure.job,
        way_out(connection, current, &told.left).unwrap_or_default()
    );
    Some(Verdict::new(Status::False, Reason::RestoreFailed, message))
}

/// Of a database that no backup is left of.
fn way_out(connection: &MarketplaceConnection, current: &RestoreStatus, left: &[String]) -> Option<String> {
    let reason = current.last_failure.as_ref()?.reason.as_deref();
    let chain = &connection.status.as_ref()?.audit.as_ref()?.chain;
    if current.cause != RestoreCause::VolumeEmpty || reason != Some("NoBackup") {
        return None;
    }
    if !left.is_empty() {
        return Some(format!(
            ". spec.backup named other stores before, which may have one: {}. Name it there again, and it is restored",
            left.join(", ")
        ));
    }
    let begin = labels::BEGIN_ANEW;
    let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
    let is = match connection.annotations().get(begin) {
        None => String::new(),
        Some(other) => format!(" (it is {other} now, which names no database of this connection)"),
    };
    Some(format!(
        ". To begin without what was lost: kubectl -n {namespace} annotate mconn {name} --overwrite {begin}={chain}{is}"
    ))
}

/// What is said of a value of spec.restore that isn't taken up any more.
pub fn reminder(connection: &MarketplaceConnection, restore: Option<&RestoreStatus>) -> Option<&'static str> {
    let asked = connection.spec.restore.as_ref().filter(|asked| was_taken_up(restore, asked))?;
    if restore?.done.as_ref() != Some(asked) {
        return Some(
            "spec.restore could not be done and isn't tried again: remove it, then it may be named again",
        );
    }
    Some(
        "spec.restore was done and isn't done again for the same value (to go back there once more, name the same backup by another time: spec.restore.before)",
    )
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

#[cfg(test)]
mod tests {
    use marketrelay_api::connection::JobResult;
    use serde_json::json;

    use super::*;

    fn connection(asked: bool) -> MarketplaceConnection {
        let restore = asked.then(|| json!({"backup": "20261129T003250Z-5f0c1a2b", "confirm": "id"}));
        let reference = json!({"name": "s"});
        let value = json!({
            "apiVersion": "marketrelay.dev/v1alpha1", "kind": "MarketplaceConnection",
            "metadata": {"name": "bol", "namespace": "acme"},
            "spec": {"bol": {}, "credentialsSecretRef": reference, "restore": restore,
                     "destination": {"webhook": {"url": "https://erp.example", "signingSecretRef": reference}}}});
        serde_json::from_value(value).expect("a connection")
    }

    fn ended(restored: bool) -> RestoreStatus {
        let at = seconds("2026-11-29T02:00:00Z".parse().expect("a time"));
        let value = json!({"backup": "b", "site": "onSite", "takenAt": at, "orders": 1, "anonymised": 0, "erased": 0, "held": 0});
        RestoreStatus {
            since: at.clone(),
            cause: RestoreCause::Asked,
            asked: connection(true).spec.restore,
            done: None,
            failures: 1,
            last_failure: Some(JobResult {
                job: "bol-restore-1-0".to_owned(),
                finished_at: at.clone(),
                reason: Some("BackupNotFound".to_owned()),
                message: Some("there is none".to_owned()),
            }),
            finished_at: Some(at),
            restored: restored.then(|| serde_json::from_value(value).expect("a backup")),
        }
    }

    fn told(status: RestoreStatus) -> Told {
        Told { status: Some(status), pinned: None, left: Vec::new() }
    }

    #[test]
    fn what_is_asked_for_and_is_not_there_stays_told_though_the_relay_goes_on() {
        let verdict = verdict(&connection(true), &told(ended(false))).expect("it is told");
        assert_eq!((verdict.status, verdict.reason), (Status::False, Reason::RestoreFailed.to_string()));
        for part in ["BackupNotFound: there is none", "goes on", "kubectl -n acme logs job/bol-restore-1-0"] {
            assert!(verdict.message.contains(part), "{}", verdict.message);
        }
        assert!(super::verdict(&connection(true), &told(ended(true))).is_none());
    }

    #[test]
    fn who_has_no_backup_left_is_told_how_to_begin_without_one() {
        let mut connection = connection(false);
        let audit = json!({"chain": "5c1f", "sequence": 9, "hash": "ab", "publicKey": "cd", "checkedAt": "2026-11-29T01:00:00Z"});
        connection.status = serde_json::from_value(json!({"audit": audit})).expect("a status");
        let mut restore =
            RestoreStatus { cause: RestoreCause::VolumeEmpty, finished_at: None, ..ended(false) };
        let mut message = |reason: &str, annotation: Option<&str>, left: &[&str]| {
            restore.last_failure.as_mut().expect("a failure").reason = Some(reason.to_owned());
            let annotation = annotation.map(|value| (labels::BEGIN_ANEW.to_owned(), value.to_owned()));
            connection.metadata.annotations = Some(annotation.into_iter().collect());
            let left = left.iter().copied().map(str::to_owned).collect();
            let told = Told { left, ..told(restore.clone()) };
            verdict(&connection, &told).expect("it is told").message
        };
        assert!(message("NoBackup", None, &[]).ends_with("marketrelay.dev/begin-anew=5c1f"));
        assert!(message("NoBackup", Some("other"), &[]).contains("it is other now"));
        assert!(!message("SiteLeftOut", None, &[]).contains("begin-anew"), "it may be there yet");
        let elsewhere = message("NoBackup", None, &["https://s3.example.com/old/"]);
        assert!(elsewhere.contains("https://s3.example.com/old/") && !elsewhere.contains("begin-anew"));
    }

    #[test]
    fn that_a_value_is_not_restored_twice_is_said_where_it_is_asked_for_again() {
        let done = RestoreStatus { done: connection(true).spec.restore, ..ended(true) };
        assert!(reminder(&connection(true), Some(&done)).is_some_and(|words| words.contains("was done")));
        assert_eq!(reminder(&connection(false), Some(&done)), None);
        assert_eq!(reminder(&connection(true), None), None);
        let refused = RestoreStatus { done: None, ..done.clone() };
        assert!(reminder(&connection(true), Some(&refused)).is_some_and(|words| words.contains("could not")));
        let other = RestoreStatus { asked: None, done: None, ..done };
        assert_eq!(reminder(&connection(true), Some(&other)), None);
    }
}
