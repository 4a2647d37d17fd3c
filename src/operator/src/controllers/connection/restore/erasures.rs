//! What was erased, by the requests that there are: a backup may be older than they are.

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{
    ErasureRequest, MarketplaceConnection, Reason, SubjectDigest,
    backup::{PastErasure, PastErasures},
    erasure::ErasureState,
    labels,
};
use marketrelay_escrow::erasures::MOST;

use crate::{names::Names, problem::Problem, stores::Stores};

/// Whatever was erased longer ago than any policy keeps backups, and a day, no backup can have any more.
const UNDONE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// So much the clock of a relay, which says when a backup was taken, and ours may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// Of a connection. Where there are more than there is room for, the newest are taken: a backup has its own journal of those before
/// it, and one that is older than any that is left out isn't restored.
pub fn of(stores: &Stores, connection: &MarketplaceConnection, now: Timestamp) -> PastErasures {
    let (namespace, name) = (connection.namespace(), connection.name_any());
    let requests = stores.erasures.state_filter(|request| request.namespace() == namespace);
    let erasures = fitting(requests.iter().filter_map(|request| past(request, &name, now)).collect(), MOST);
    let since = erasures.since.max(lost_before(stores, connection, now));
    PastErasures { since, ..erasures }
}

/// Since when erasures are known, if the cluster of the connection was lost and not all were escrowed; as long as there can be backups
/// from before.
fn lost_before(stores: &Stores, connection: &MarketplaceConnection, now: Timestamp) -> Option<Timestamp> {
    let namespace = connection.namespace().unwrap_or_default();
    let reference = ObjectRef::new(&Names(&connection.name_any()).keyring()).within(&namespace);
    let keyring = stores.secrets.get(&reference)?;
    let since: Timestamp = keyring.annotations().get(labels::ERASURES_KNOWN_SINCE)?.parse().ok()?;
    (now.duration_since(since) < UNDONE).then_some(since)
}

/// The newest of them, of `most` bytes as JSON.
fn fitting(mut all: Vec<(Timestamp, PastErasure)>, most: usize) -> PastErasures {
    all.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.uid.cmp(&other.uid)));
    let mut bytes = 0;
    let fits = |(_, erasure): &&(Timestamp, PastErasure)| {
        bytes += size(erasure);
        bytes <= most
    };
    let count = all.iter().take_while(fits).count();
    let since = all.get(count).map(|(at, _)| at.saturating_add(CLOCKS).unwrap_or(Timestamp::MAX));
    all.truncate(count);
    let mut requests: Vec<_> = all.into_iter().map(|(_, erasure)| erasure).collect();
    requests.sort_by(|a, b| a.uid.cmp(&b.uid));
    PastErasures { requests, since }
}

/// As JSON, with a comma.
fn size(erasure: &PastErasure) -> usize {
    // A structure of texts always has a JSON form.
    serde_json::to_string(erasure).unwrap_or_default().len() + 1
}

/// What a person must know if not all are kept, or known.
pub fn problem(
    stores: &Stores,
    connection: &MarketplaceConnection,
    erasures: &PastErasures,
    now: Timestamp,
) -> Option<Problem> {
    let since = erasures.since?;
    let is_lost = lost_before(stores, connection, now) == Some(since);
    Some(Problem::new(Reason::TooManyErasures, message(erasures.requests.len(), since, is_lost)))
}

fn message(kept: usize, since: Timestamp, is_lost: bool) -> String {
    let why = if is_lost {
        format!(
            "the connection comes from a cluster that was lost, and not all that was erased before {since} was escrowed"
        )
    } else {
        format!(
            "more was erased than Jobs that restore, and the escrowed keys, have room for: the newest {kept} requests are kept"
        )
    };
    format!(
        "{why}. Backups that were taken before {since} would bring back what others erased, and aren't restored; this ends by \
         itself once they have expired"
    )
}

/// That of a request by which the connection's relay has found something, and of which a backup may have a copy; when it was
/// done. A relay forgets a request no earlier than that: repeated later it could erase what came after it. One of a lost cluster
/// had found something there.
fn past(request: &ErasureRequest, connection: &str, now: Timestamp) -> Option<(Timestamp, PastErasure)> {
    let uid = request.uid().unwrap_or_default();
    let done = request.status.as_ref().and_then(|status| status.completed_at.as_ref()).map(|done| done.0);
    let erasure = move |subject: &[SubjectDigest]| {
        let subject = subject.to_vec();
        // What isn't done yet, no backup knows.
        (!subject.is_empty()).then_some((done.unwrap_or(Timestamp::MAX), PastErasure { uid, subject }))
    };
    let of_spec = request.spec.subject.digests.as_deref();
    let is_recovered = request.labels().get(labels::SOURCE).is_some_and(|source| source == labels::RECOVERED);
    let is_open = request.status.as_ref().is_none_or(|status| status.sealed_copies_until.is_none());
    if is_recovered && is_open {
        let is_of =
            request.spec.connections.is_empty() || request.spec.connections.iter().any(|of| of == connection);
        return erasure(of_spec.filter(|_| is_of)?);
    }
    let status = request.status.as_ref()?;
    let found = status.connections.iter().any(|at| {
        at.name == connection && at.state == ErasureState::Erased && at.matched.unwrap_or_default() > 0
    });
    let has_copies = status.sealed_copies_until.as_ref().is_some_and(|until| until.0 > now);
    let has_backups = done.is_none_or(|done| now.duration_since(done) < UNDONE);
    erasure(of_spec.unwrap_or(&status.digests)).filter(|_| found && has_copies && has_backups)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of 1 MiB: 2,000 keys and identities, more than there can be, need less than the rest.
    const ROOM: usize = 750 << 10;

    #[test]
    fn a_request_is_repeated_where_it_has_found_something_however_its_subject_was_named() {
        let digest = format!("order:{}", "0".repeat(64));
        let request = |spec, matched| {
            let value = json!({"metadata": {"name": "r", "uid": "u"}, "spec": {"subject": spec},
                "status": {"digests": [digest], "sealedCopiesUntil": "2026-12-01T00:00:00Z", "connections": [{"name": "bol", "state": "Erased", "matched": matched}]}});
            serde_json::from_value::<ErasureRequest>(value).expect("a request")
        };
        let now = "2026-11-30T23:59:59Z".parse().expect("a time");
        let past = |request: &ErasureRequest, connection: &str| past(request, connection, now);
        let by_digest = request(json!({"digests": [digest]}), 1);
        let by_secret = request(json!({"secretRef": {"name": "s"}}), 2);
        for request in [&by_digest, &by_secret] {
            let (done, erasure) = past(request, "bol").expect("it has found something");
            assert_eq!(done, Timestamp::MAX, "not all connections have confirmed it");
            assert_eq!((erasure.uid.as_str(), erasure.subject.len()), ("u", 1));
        }
        assert_eq!(past(&by_digest, "ebay"), None);
        let later = "2026-12-01T00:00:00Z".parse().expect("a time");
        assert_eq!(super::past(&by_digest, "bol", later), None, "no copy is left");
        assert_eq!(past(&request(json!({"digests": [digest]}), 0), "bol"), None);
        let mut recovered = by_digest.clone();
        (recovered.status, recovered.spec.connections) = (None, vec!["bol".to_owned()]);
        assert_eq!(past(&recovered, "bol"), None, "nobody has looked yet");
        recovered.labels_mut().insert(labels::SOURCE.to_owned(), labels::RECOVERED.to_owned());
        assert!(past(&recovered, "bol").is_some(), "the lost cluster's relay had found something");
        assert_eq!(past(&recovered, "ebay"), None);
    }

    #[test]
    fn what_was_erased_before_any_backup_that_is_left_is_kept_no_longer() {
        let digest = format!("order:{}", "0".repeat(64));
        let value = json!({"metadata": {"name": "r", "uid": "u"}, "spec": {"subject": {"digests": [digest]}},
            "status": {"completedAt": "2026-10-01T00:00:00Z", "sealedCopiesUntil": "2026-12-30T00:00:00Z",
                       "connections": [{"name": "bol", "state": "Erased", "matched": 1}]}});
        let request: ErasureRequest = serde_json::from_value(value).expect("a request");
        let past =
            |now: &str| past(&request, "bol", now.parse().expect("a time")).map(|(done, _)| done.to_string());
        assert_eq!(past("2026-10-31T23:59:59Z").as_deref(), Some("2026-10-01T00:00:00Z"));
        assert_eq!(past("2026-11-01T00:00:00Z"), None, "backups that were taken before it have expired");
    }

    /// Of this age in seconds, with so many digests that nothing can compress.
    fn random(age: i64, digests: usize) -> (Timestamp, PastErasure) {
        let random = || *marketrelay_keyring::SecretKey::generate().expect("bytes").expose();
        let at = Timestamp::from_second(1_800_000_000 - age).expect("in range");
        let hex: Vec<String> = random()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        let uid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let subject = (0..digests).map(|_| SubjectDigest::Order(random())).collect();
        (at, PastErasure { uid, subject })
    }

    #[test]
    fn as_many_as_fit_are_kept_the_newest_first_and_it_is_told_since_when() {
        let all: Vec<_> = (0..10).map(|age| random(age, 1)).collect();
        let most = 4 * size(&all[0].1) + 1;
        let kept = fitting(all.clone(), most);
        let mut newest: Vec<_> = all[..4].iter().map(|(_, erasure)| erasure.clone()).collect();
        newest.sort_by(|a, b| a.uid.cmp(&b.uid));
        assert_eq!((&kept.requests, kept.since), (&newest, Some(all[4].0 + CLOCKS)));
        let since = kept.since.expect("not all are kept");
        let told = message(4, since, false);
        assert!(told.contains("the newest 4 requests") && told.contains("before 2027-01-15T08:04:56Z"));
        let whole = fitting(all, most * 3);
        assert_eq!((whole.requests.len(), whole.since), (10, None));
    }

    #[test]
    fn what_is_kept_leaves_room_for_the_keys_however_little_it_can_be_compressed() {
        for digests in [1, 3, 300] {
            let one = size(&random(0, digests).1);
            let more = i64::try_from(MOST / one).expect("a count") + 2;
            let kept = fitting((0..more).map(|age| random(age, digests)).collect(), MOST);
            let packed = marketrelay_escrow::erasures::pack(&kept).expect("packed").len();
            let count = kept.requests.len();
            assert!(kept.since.is_some() && packed < ROOM, "{digests}: {packed} bytes of {count} requests");
        }
    }
}
