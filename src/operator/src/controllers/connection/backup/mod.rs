//! A connection's backups: what is wanted of them, what their Jobs have reported, and what follows from that for its status.

pub mod archives;
mod ended;
mod escrowed;
mod first;
mod recorded;
mod verdict;
mod wanted;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{
    ConditionType, MarketplaceConnection, Reason,
    connection::Backups,
    relay::{HoldUse, RelayStatus},
};
use marketrelay_keyring::HoldId;

use super::{Context, children::Children};
use crate::{
    conditions::Verdict,
    controllers::keyring::{escrow, facts::KeyringFacts},
};
pub use ended::{Outcome, outcome};
pub use wanted::{Credentials, Store, Wanted, bucket, wanted};

#[cfg(test)]
pub use {recorded::recorded, wanted::tests::sample};

/// What the status says of backups.
#[derive(Clone, Debug)]
pub struct Told {
    /// Those that there are.
    pub backups: Backups,
    /// The conditions of the sites.
    pub verdicts: Vec<(ConditionType, Verdict)>,
    /// Why it can't be said that backups are gone in time.
    pub overdue: Option<(Reason, String)>,
}

/// Reads what the Jobs have reported, and begins a first backup where one is due, or one because of an archive. `relay`: its
/// word, if it is ready to give a snapshot. `keyring`: none while it can't be used.
pub async fn look(
    context: &Context,
    connection: &MarketplaceConnection,
    wanted: Option<Wanted>,
    children: &Children,
    relay: Option<&RelayStatus>,
    keyring: Option<&KeyringFacts>,
    now: Timestamp,
) -> Option<Told> {
    let mut wanted = wanted?;
    let (jobs, pods) = context.stores.jobs(&ObjectRef::from_obj(connection));
    let jobs = ended::jobs(&jobs);
    let before = connection.status.as_ref().and_then(|status| status.backups.as_ref());
    let mut backups = recorded::recorded(before, &wanted, &ended::ended(&jobs, &pods, now), now);
    if let Some(keyring) = keyring {
        archives::settle(&mut backups, &keyring.hold_ids);
    }
    let ids: BTreeSet<_> = keyring.iter().flat_map(|facts| facts.hold_ids.values()).collect();
    let has_key = |word: &&HoldUse| word.id.parse().is_ok_and(|id: HoldId| ids.contains(&id));
    let holds: Vec<_> = relay.iter().flat_map(|relay| &relay.holds).filter(has_key).cloned().collect();
    let existing = &children.backup;
    let facts = first::Facts {
        wanted: &wanted,
        before,
        backups: &backups,
        existing,
        jobs: &jobs,
        relay_is_ready: relay.is_some(),
        holds: &holds,
        now,
    };
    let begun = first::begin(&context.client, &facts).await;
    if let Err(problem) = begun {
        wanted = wanted.blocked(&problem);
    }
    let deadline = context.config.backup.as_ref().map_or(0, |settings| settings.deadline_seconds);
    let deadline = SignedDuration::from_secs(deadline.into());
    let has_recipients = context.config.backup.as_ref().is_some_and(|settings| settings.escrow.is_on());
    if !has_recipients {
        escrowed::withdraw(&mut backups, now);
    }
    let keys = has_recipients.then(|| {
        let newest = keyring.and_then(|facts| escrow::newest(context, facts, connection));
        let keys = escrowed::Keys::of(existing.escrow.as_deref());
        let is_behind = keys.is_behind(newest.as_deref());
        keys.behind_since(context.memory.behind_since(connection, is_behind, now))
    });
    let namespace = connection.namespace().unwrap_or_default();
    let escrowed =
        escrowed::verdict(&namespace, &wanted, backups.off_site.as_ref(), keys.as_ref(), deadline, now);
    let late = keys.as_ref().and_then(|keys| escrowed::overdue(keys, backups.off_site.as_ref()?, now));
    let verdicts = verdict::verdicts(&namespace, &wanted, &backups, deadline, now);
    Some(Told {
        verdicts: verdicts.into_iter().chain([(ConditionType::Escrowed, escrowed)]).collect(),
        overdue: verdict::overdue(&namespace, &backups, now).or(late),
        backups,
    })
}
