//! What a loss of the whole cluster would cost: whether a connection's keys are escrowed as they are now. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::PartialObjectMeta};
use marketrelay_api::{
    Reason,
    backup::Site,
    connection::{Backups, EscrowedKeys, SiteBackups},
    labels,
};

use super::wanted::Wanted;
use crate::conditions::{Status, Verdict, seconds};

/// How long a copy may hold a key whose time has come.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// The keys that are to be escrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What they are known by, and since when they are so; `None`: they haven't been put together yet.
    newest: Option<(String, Timestamp)>,
    /// Since when that isn't what the key Secrets hold.
    behind_since: Option<Timestamp>,
}

/// Whoever wants no escrow any more has what there is pruned: it doesn't count any more, nor do earlier reports.
pub fn withdraw(backups: &mut Backups, now: Timestamp) {
    if let Some(escrowed) = backups.off_site.as_mut().and_then(|site| site.escrowed.as_mut())
        && !escrowed.fingerprint.is_empty()
    {
        (escrowed.fingerprint, escrowed.at) = (String::new(), seconds(now));
    }
}

impl Keys {
    /// By the Secret that holds their encrypted copy.
    pub fn of(secret: Option<&PartialObjectMeta<Secret>>) -> Self {
        let newest = secret.and_then(|secret| {
            let annotation = |name| secret.annotations().get(name);
            let since = annotation(labels::FINGERPRINT_SINCE)?.parse().ok()?;
            Some((annotation(labels::FINGERPRINT)?.clone(), since))
        });
        Self { newest, behind_since: None }
    }

    /// Whether they are otherwise than the key Secrets, which would be escrowed as `now`.
    pub fn is_behind(&self, now: Option<&str>) -> bool {
        now.is_none() || self.newest.as_ref().map(|(newest, _)| newest.as_str()) != now
    }

    /// The same, with since when.
    pub fn behind_since(self, behind_since: Option<Timestamp>) -> Self {
        Self { behind_since, ..self }
    }

    /// Since when they are otherwise than what is escrowed.
    fn missing_since(&self, known: &SiteBackups) -> Option<Timestamp> {
        let escrowed = copy(known).map(|escrowed| escrowed.fingerprint.as_str());
        if self.behind_since.is_some() && escrowed.is_some() {
            return self.behind_since;
        }
        match &self.newest {
            None => escrowed.is_none().then_some(known.since.0),
            Some((newest, since)) => (escrowed != Some(newest)).then_some(*since),
        }
    }
}

/// What there is in the store.
fn copy(known: &SiteBackups) -> Option<&EscrowedKeys> {
    known.escrowed.as_ref().filter(|escrowed| !escrowed.fingerprint.is_empty())
}

/// The condition; `keys`: absent if the operator has nobody who could open them. `namespace`: of the
/// connection, `deadline`: of one Job.
pub fn verdict(
    namespace: &str,
    wanted: &Wanted,
    known: Option<&SiteBackups>,
    keys: Option<&Keys>,
    deadline: SignedDuration,
    now: Timestamp,
) -> Verdict {
    let consequence =
        "if this cluster is lost, its keys are lost with it, and nobody can open the backups any more";
    let Some(keys) = keys else {
        let message = format!(
            "{consequence}: set backup.escrow.recipients in the operator's values (docs/operations/escrow.md)"
        );
        return Verdict::new(Status::False, Reason::NotEscrowed, message);
    };
    let (Some(store), Some(known)) = (wanted.site(Site::OffSite), known) else {
        let message = format!("{consequence}: name a store in spec.backup.offSite");
        return Verdict::new(Status::False, Reason::NotEscrowed, message);
    };
    let store = match store {
        Ok(store) => store,
        Err(problem) => return Verdict::new(Status::False, problem.reason, &problem.message),
    };
    let last = known.last_escrow.as_ref().and_then(|last| Some((last.reason.as_ref()?, last)));
    if let Some((reason, last)) = last {
        let message = format!(
            "the keys can't be escrowed: {} ({}; kubectl -n {namespace} logs job/{})",
            last.message.as_deref().unwrap_or_default(),
            store.shown(),
            last.job
        );
        return Verdict::new(Status::False, reason.as_str(), message);
    }
    match keys.missing_since(known) {
        Some(since) if now.duration_since(since) > deadline * 2 => {
            let message = format!(
                "the newest keys wait for their escrow since {since}: look at its Jobs (kubectl -n {namespace} get cronjobs,jobs -l \
                 marketrelay.dev/task=escrow), and at the operator's log if there is none"
            );
            Verdict::new(Status::False, Reason::EscrowOverdue, message)
        }
        Some(_) if copy(known).is_none() => {
            Verdict::new(Status::Unknown, Reason::FirstRun, "the keys are being escrowed for the first time")
        }
        _ => Verdict::new(Status::True, Reason::Escrowed, "the keys are kept with the off-site backups"),
    }
}

/// Why it can't be said that no copy of a key outlives its time.
pub fn overdue(keys: &Keys, known: &SiteBackups, now: Timestamp) -> Option<(Reason, String)> {
    let escrowed = copy(known)?;
    let since = keys.missing_since(known).unwrap_or(now).min(if escrowed.old_versions > 0 {
        escrowed.at.0
    } else {
        now
    });
    let is_late = now.duration_since(since) > LATEST;
    is_late.then(|| {
        let message = format!(
            "the escrowed copy in the off-site store is older than {since}, or has older ones beside it, and may hold keys whose \
             time has come: see condition Escrowed"
        );
        (Reason::EscrowOverdue, message)
    })
}

#[cfg(test)]
mod tests {
    use marketrelay_api::connection::JobResult;

    use super::*;
    use crate::controllers::connection::backup::{recorded::recorded, wanted::tests::sample};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3_600).expect("in range")
    }

    fn known(fingerprint: Option<&str>, failure: Option<&str>) -> SiteBackups {
        let site = recorded(None, &sample(), &[], at(0)).off_site.expect("off-site");
        let failure = failure.map(|reason| JobResult {
            job: "j".to_owned(),
            finished_at: seconds(at(1)),
            reason: Some(reason.to_owned()),
            message: Some("because".to_owned()),
        });
        let fingerprint = fingerprint.map(str::to_owned);
        let escrowed =
            fingerprint.map(|fingerprint| EscrowedKeys { fingerprint, at: seconds(at(1)), old_versions: 0 });
        SiteBackups { escrowed, last_escrow: failure, ..site }
    }

    fn keys(newest: &str, since: i64) -> Keys {
        Keys { newest: Some((newest.to_owned(), at(since))), behind_since: None }
    }

    #[test]
    fn keys_are_escrowed_only_as_they_are_now() {
        let told = |known: &SiteBackups, keys: Option<&Keys>, hour| {
            let verdict =
                verdict("acme", &sample(), Some(known), keys, SignedDuration::from_hours(1), at(hour));
            (verdict.status, verdict.reason)
        };
        let newest = keys("b", 10);
        for (known, keys, hour, status, reason) in [
            (known(None, None), None, 1, Status::False, Reason::NotEscrowed),
            (
                known(None, None),
                Some(&Keys { newest: None, behind_since: None }),
                2,
                Status::Unknown,
                Reason::FirstRun,
            ),
            (
                known(None, None),
                Some(&Keys { newest: None, behind_since: None }),
                3,
                Status::False,
                Reason::EscrowOverdue,
            ),
            (known(Some("b"), None), Some(&newest), 99, Status::True, Reason::Escrowed),
            (known(Some("a"), None), Some(&newest), 12, Status::True, Reason::Escrowed),
            (known(Some("a"), None), Some(&newest), 13, Status::False, Reason::EscrowOverdue),
            (known(Some("b"), Some("StoreFull")), Some(&newest), 11, Status::False, Reason::StoreFull),
        ] {
            assert_eq!(told(&known, keys, hour), (status, reason.to_string()), "{keys:?} hour {hour}");
        }
        let alone = verdict("acme", &sample(), None, Some(&newest), SignedDuration::from_hours(1), at(1));
        assert!(alone.message.contains("spec.backup.offSite"), "{}", alone.message);
    }

    #[test]
    fn a_copy_that_may_hold_a_dead_key_for_a_day_breaks_the_retention() {
        let newest = keys("b", 10);
        let late = |known: &SiteBackups, hour| overdue(&newest, known, at(hour)).is_some();
        assert!(!late(&known(Some("b"), None), 99));
        assert!(!late(&known(Some("a"), None), 34) && late(&known(Some("a"), None), 35));
        assert!(!late(&known(None, None), 99), "there is no copy");
        let mut left = known(Some("b"), None);
        left.escrowed.as_mut().expect("keys").old_versions = 2;
        assert!(!late(&left, 25) && late(&left, 26));
    }

    #[test]
    fn a_copy_that_can_not_follow_the_keys_or_was_withdrawn_is_none_of_them() {
        let told = |known: &SiteBackups, keys: &Keys, hour| {
            let verdict =
                verdict("acme", &sample(), Some(known), Some(keys), SignedDuration::from_hours(1), at(hour));
            (verdict.status, verdict.reason)
        };
        let behind = keys("b", 1).behind_since(Some(at(10)));
        assert_eq!(told(&known(Some("b"), None), &behind, 12), (Status::True, Reason::Escrowed.to_string()));
        assert_eq!(
            told(&known(Some("b"), None), &behind, 13),
            (Status::False, Reason::EscrowOverdue.to_string())
        );
        assert!(keys("b", 1).is_behind(None) && keys("b", 1).is_behind(Some("c")));
        assert!(!keys("b", 1).is_behind(Some("b")));
        let mut backups = recorded(None, &sample(), &[], at(0));
        backups.off_site = Some(known(Some("b"), None));
        withdraw(&mut backups, at(20));
        let site = backups.off_site.expect("off-site");
        assert_eq!(site.escrowed.as_ref().map(|escrowed| escrowed.at.clone()), Some(seconds(at(20))));
        assert_eq!(told(&site, &keys("b", 20), 21), (Status::Unknown, Reason::FirstRun.to_string()));
        assert_eq!(overdue(&keys("b", 20), &site, at(99)), None);
    }
}
