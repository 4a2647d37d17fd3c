//! Which backups are tried, and in which order. Pure.

use std::slice;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{Choice, Site};
use marketrelay_relay::store::import::Made;
use marketrelay_snapshot::Manifest;
use snafu::{OptionExt, ensure};

use super::{
    RestoreError,
    error::{DamagedSnafu, NoBackupSnafu, TooOldSnafu},
};
use crate::{
    BackupId,
    archives::{ArchiveId, Archives},
    catalog::Catalog,
    prune::Manifests,
};

/// Backups that a message names.
const NAMED: usize = 5;

/// What a site has.
#[derive(Debug)]
pub(super) struct Listed {
    /// Which of the configured sites, from 0.
    pub place: usize,
    pub site: Site,
    pub manifests: Manifests,
    /// Backups whose manifest isn't their own, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Archives of holds.
    pub archives: Archives,
    /// Archives whose manifest isn't their own, and why.
    pub damaged_archives: Vec<(ArchiveId, String)>,
}

impl Listed {
    /// Of the configured site at this place.
    pub(super) fn new(place: usize, site: Site, catalog: Catalog) -> Self {
        let Catalog { manifests, damaged, archives, damaged_archives, .. } = catalog;
        Self { place, site, manifests, damaged, archives, damaged_archives }
    }
}

/// A backup that may be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Which of the configured sites, from 0.
    pub place: usize,
    pub site: Site,
    pub id: BackupId,
    pub manifest: Manifest,
}

impl Candidate {
    /// Whether the database was made of it.
    pub(super) fn is_of(&self, made: &Made) -> bool {
        let head = &self.manifest.audit;
        self.id.as_str() == made.backup && head.chain == made.chain && head.position() == Some(made.head)
    }
}

/// Those that are chosen and haven't expired, the newest first; of equally new ones the first site's. Numbers of one database
/// say nothing of another one's: with a `chain` only those of that database are, unless there is none.
pub(super) fn choose(
    listed: &[Listed],
    choice: &Choice,
    chain: Option<&str>,
    now: Timestamp,
) -> Vec<Candidate> {
    let is_chosen = |id: &BackupId, manifest: &Manifest| match choice {
        Choice::Newest => true,
        Choice::Backup(asked) => id.as_str() == asked,
        Choice::Before(time) => manifest.created_at <= *time,
    };
    let mut chosen: Vec<_> = live(listed, now)
        .filter(|(_, id, manifest)| is_chosen(id, manifest))
        .map(|(Listed { place, site, .. }, id, manifest)| Candidate {
            place: *place,
            site: *site,
            id: id.clone(),
            manifest: manifest.clone(),
        })
        .collect();
    let is_own = |candidate: &Candidate| Some(candidate.manifest.audit.chain.as_str()) == chain;
    if !matches!(choice, Choice::Backup(_)) && chosen.iter().any(is_own) {
        chosen.retain(is_own);
    }
    // It keeps the sites' order.
    chosen.sort_by_key(|Candidate { manifest, .. }| {
        std::cmp::Reverse((manifest.sequence, manifest.created_at))
    });
    chosen
}

fn live(listed: &[Listed], now: Timestamp) -> impl Iterator<Item = (&Listed, &BackupId, &Manifest)> {
    let all =
        listed.iter().flat_map(|site| site.manifests.iter().map(move |(id, manifest)| (site, id, manifest)));
    all.filter(move |(_, _, manifest)| manifest.expires_at > now)
}

/// The highest number of a snapshot.
pub(super) fn highest(listed: &[Listed]) -> u64 {
    let manifests = listed.iter().flat_map(|site| site.manifests.values().chain(site.archives.values()));
    manifests.map(|manifest| manifest.sequence).max().unwrap_or_default()
}

/// Those that could have been chosen if they weren't damaged, newest first.
pub(super) fn damaged(listed: &[Listed], choice: &Choice) -> Vec<(BackupId, String)> {
    let is_chosen = |id: &BackupId| match choice {
        Choice::Newest => true,
        Choice::Backup(asked) => id.as_str() == asked,
        Choice::Before(time) => id.begun() <= *time,
    };
    let all = listed.iter().flat_map(|site| {
        site.damaged.iter().map(|(id, problem)| (id.clone(), format!("{id} ({}): {problem}", site.site)))
    });
    let mut damaged: Vec<_> = all.filter(|(id, _)| is_chosen(id)).collect();
    damaged.sort_by(|one, other| other.0.cmp(&one.0));
    damaged
}

/// The newest of a site (of its database, if that is known and has any), which no older one stands in for: an error if it is damaged or older than `oldest`.
pub(super) fn newest(
    listed: &Listed,
    chain: Option<&str>,
    oldest: SignedDuration,
    now: Timestamp,
) -> Result<Candidate, RestoreError> {
    let listed = slice::from_ref(listed);
    let newest = choose(listed, &Choice::Newest, chain, now).into_iter().next();
    if let Some((id, problem)) = damaged(listed, &Choice::Newest).into_iter().next()
        && newest.as_ref().is_none_or(|newest| newest.id < id)
    {
        return DamagedSnafu { problem: format!("the newest backup, {problem}") }.fail();
    }
    let newest = newest.context(NoBackupSnafu)?;
    let age = now.duration_since(newest.manifest.created_at);
    let age = SignedDuration::from_secs(age.as_secs());
    ensure!(age <= oldest, TooOldSnafu { backup: newest.id.as_str(), age, oldest });
    Ok(newest)
}

/// Why there is nothing to choose from.
pub(super) fn nothing(listed: &[Listed], choice: &Choice, now: Timestamp) -> RestoreError {
    let damaged: Vec<_> = damaged(listed, choice).into_iter().map(|(_, problem)| problem).collect();
    if !damaged.is_empty() {
        return RestoreError::Damaged { problem: damaged.join("; ") };
    }
    let mut ids: Vec<_> = live(listed, now).map(|(_, id, _)| id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let there: Vec<_> = ids.into_iter().rev().take(NAMED).collect();
    let asked = match choice {
        Choice::Backup(id) => id.clone(),
        Choice::Before(time) => format!("that was taken at {time} or before it"),
        Choice::Newest => String::new(),
    };
    if there.is_empty() || asked.is_empty() {
        return RestoreError::NoBackup;
    }
    RestoreError::NotFound { asked, there: there.join(", ") }
}

#[cfg(test)]
pub(crate) mod tests {
    use marketrelay_audit::{Kind, Position, Signer};
    use marketrelay_snapshot::Data;

    use super::*;
    use crate::Reason;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// That lasts a day.
    pub(crate) fn manifest(id: &BackupId, sequence: u64) -> Manifest {
        let signer = Signer::new(&[7; 32]).expect("a key");
        Manifest {
            format: 1,
            backup: id.to_string(),
            connection_id: "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            marketplace: "bol".to_owned(),
            schema: 7,
            created_at: id.begun(),
            known_until: None,
            expires_at: id.begun() + HOUR * 24,
            identity: "backup.20261229T000000Z".to_owned(),
            sequence,
            keys: Vec::new(),
            tables: Vec::new(),
            data: Data { bytes: 0, sha256: String::new() },
            audit: signer.sign(Kind::Head, "chain", Position::START, id.begun()),
            hold: None,
        }
    }

    fn listed(site: Site, backups: &[(&BackupId, u64)]) -> Listed {
        let manifests = backups.iter().map(|(id, sequence)| ((*id).clone(), manifest(id, *sequence)));
        Listed {
            place: 0,
            site,
            manifests: manifests.collect(),
            damaged: Vec::new(),
            archives: Archives::new(),
            damaged_archives: Vec::new(),
        }
    }

    #[test]
    fn the_order_is_that_of_the_snapshots_numbers_then_of_time_then_of_sites() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        let [oldest, old, new, newest] = [4, 3, 2, 1].map(|hours| BackupId::mint(now - HOUR * hours));
        let sites = [
            listed(Site::OnSite, &[(&oldest, 1), (&new, 4), (&newest, 3)]),
            listed(Site::OffSite, &[(&oldest, 1), (&old, 4)]),
        ];
        let order = |choice| {
            let chosen = choose(&sites, &choice, None, now);
            chosen.into_iter().map(|candidate| (candidate.id, candidate.site)).collect::<Vec<_>>()
        };
        let oldests = [(oldest.clone(), Site::OnSite), (oldest.clone(), Site::OffSite)];
        let first = [(new, Site::OnSite), (old.clone(), Site::OffSite), (newest, Site::OnSite)];
        assert_eq!(order(Choice::Newest), [&first[..], &oldests].concat());
        let before = [&[(old.clone(), Site::OffSite)][..], &oldests].concat();
        assert_eq!(order(Choice::Before(old.begun())), before);
        assert_eq!(order(Choice::Backup(oldest.to_string())), oldests);
    }

    #[test]
    fn backups_of_a_database_that_was_given_up_come_only_if_there_is_none_of_the_one_that_counts() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        let [given_up, old, new] = [3, 2, 1].map(|hours| BackupId::mint(now - HOUR * hours));
        let mut site = listed(Site::OnSite, &[(&given_up, 900), (&old, 1), (&new, 2)]);
        for id in [&old, &new] {
            site.manifests.get_mut(id).expect("there").audit.chain = "anew".to_owned();
        }
        let ids = |choice, chain| {
            let chosen = choose(slice::from_ref(&site), &choice, chain, now);
            chosen.into_iter().map(|candidate| candidate.id).collect::<Vec<_>>()
        };
        let all = [given_up.clone(), new.clone(), old.clone()];
        assert_eq!(ids(Choice::Newest, None), all, "nobody knows which one counts");
        assert_eq!(ids(Choice::Newest, Some("another")), all, "there is none of it");
        assert_eq!(ids(Choice::Newest, Some("anew")), [new.clone(), old.clone()]);
        assert_eq!(ids(Choice::Before(old.begun()), Some("anew")), slice::from_ref(&old));
        assert_eq!(ids(Choice::Before(given_up.begun()), Some("anew")), slice::from_ref(&given_up));
        assert_eq!(ids(Choice::Backup(given_up.to_string()), Some("anew")), slice::from_ref(&given_up));
        let drilled = |chain| newest(&site, chain, HOUR * 4, now).map(|candidate| candidate.id);
        assert_eq!(drilled(Some("anew")).map_err(|error| error.reason()), Ok(new));
        assert_eq!(drilled(None).map_err(|error| error.reason()), Ok(given_up));
    }

    #[test]
    fn what_expires_this_very_second_is_not_chosen() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        let id = BackupId::mint(now);
        let there = [listed(Site::OnSite, &[(&id, 1)])];
        let expires = id.begun() + HOUR * 24;
        assert_eq!(choose(&there, &Choice::Newest, None, expires), []);
        assert_eq!(choose(&there, &Choice::Newest, None, expires - SignedDuration::from_secs(1)).len(), 1);
    }

    #[test]
    fn no_older_backup_stands_in_for_a_newest_one_that_is_damaged_or_too_old() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        let [older, old, new] = [3, 2, 1].map(|hours| BackupId::mint(now - HOUR * hours));
        let mut site = listed(Site::OnSite, &[(&older, 1), (&old, 2)]);
        let of = |site: &Listed, oldest| newest(site, None, oldest, now).map(|candidate| candidate.id);
        let reason = |site: &Listed, oldest| of(site, oldest).map_err(|error| error.reason());
        site.damaged.push((older, "altered".to_owned()));
        assert_eq!(reason(&site, HOUR * 2), Ok(old));
        let less = HOUR * 2 - SignedDuration::from_secs(1);
        assert_eq!(reason(&site, less), Err(Reason::BackupTooOld));
        site.damaged.push((new.clone(), "altered".to_owned()));
        let error = of(&site, HOUR * 2).expect_err("the newest is damaged");
        assert_eq!(error.reason(), Reason::BackupDamaged);
        assert!(error.to_string().contains(new.as_str()), "{error}");
        assert_eq!(reason(&listed(Site::OnSite, &[]), HOUR), Err(Reason::NoBackup));
    }
}
