//! A connection's backups: what is wanted of them, what their Jobs have reported, and what follows from that for its status.

mod ended;
mod escrowed;
mod first;
mod recorded;
mod verdict;
mod wanted;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;
use marketrelay_api::{ConditionType, MarketplaceConnection, Reason, connection::Backups};

use super::{Context, children::Children};
use crate::conditions::Verdict;
pub use ended::{PODS_LAG, last_state, why};
pub use wanted::{Credentials, Store, Wanted, wanted};

#[cfg(test)]
pub use wanted::tests::sample;

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

/// Reads what the Jobs have reported, and begins a first backup where one is due. `relay_is_ready`: to give a snapshot.
pub async fn look(
    context: &Context,
    connection: &MarketplaceConnection,
    wanted: Option<Wanted>,
    children: &Children,
    relay_is_ready: bool,
    now: Timestamp,
) -> Option<Told> {
    let mut wanted = wanted?;
    let (jobs, pods) = context.stores.jobs(&ObjectRef::from_obj(connection));
    let jobs = ended::jobs(&jobs);
    let before = connection.status.as_ref().and_then(|status| status.backups.as_ref());
    let backups = recorded::recorded(before, &wanted, &ended::ended(&jobs, &pods, now), now);
    let existing = &children.backup;
    let facts = first::Facts {
        wanted: &wanted,
        before,
        backups: &backups,
        existing,
        jobs: &jobs,
        relay_is_ready,
        now,
    };
    let begun = first::begin(&context.client, &facts).await;
    if let Err(problem) = begun {
        wanted = wanted.blocked(&problem);
    }
    let deadline = context.config.backup.as_ref().map_or(0, |settings| settings.deadline_seconds);
    let deadline = SignedDuration::from_secs(deadline.into());
    let has_recipients =
        context.config.backup.as_ref().is_some_and(|settings| !settings.escrow.recipients.is_empty());
    let keys = has_recipients.then(|| escrowed::Keys::of(existing.escrow.as_deref()));
    let escrowed = escrowed::verdict(&wanted, backups.off_site.as_ref(), keys.as_ref(), deadline, now);
    let late = keys.as_ref().and_then(|keys| escrowed::overdue(keys, backups.off_site.as_ref()?, now));
    let verdicts = verdict::verdicts(&wanted, &backups, deadline, now);
    Some(Told {
        verdicts: verdicts.into_iter().chain([(ConditionType::Escrowed, escrowed)]).collect(),
        overdue: verdict::overdue(&backups, now).or(late),
        backups,
    })
}
