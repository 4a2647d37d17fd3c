//! A connection's backups: what is wanted of them, what their Jobs have reported, and what follows from that for its status.

mod ended;
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
    if relay_is_ready {
        let begun =
            first::begin(&context.client, &wanted, before, &backups, &children.backup, &jobs, now).await;
        if let Err(problem) = begun {
            wanted = wanted.blocked(&problem);
        }
    }
    let deadline = context.config.backup.as_ref().map_or(0, |settings| settings.deadline_seconds);
    let deadline = SignedDuration::from_secs(deadline.into());
    Some(Told {
        verdicts: verdict::verdicts(&wanted, &backups, deadline, now),
        overdue: verdict::overdue(&backups, now),
        backups,
    })
}
