//! Closures that have begun: how many lately, and which, before a store shows it.

use std::{
    collections::{HashMap, HashSet},
    sync::{self, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::Store};
use marketrelay_api::{
    ConnectionRecord,
    record::{ClosureCause, ClosureProof},
};
use tokio::sync::{Mutex, RwLock};

use super::closure;

const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// Of all scopes, by this process.
#[derive(Default)]
pub struct Closures {
    /// By the connection's id; when, for those that the breaker has let pass.
    begun: sync::Mutex<HashMap<String, Option<Timestamp>>>,
    /// Held for reading while a connection gets its first keys, for writing while a namespace's shared key goes.
    pub namespaces: RwLock<()>,
    /// Held while a Job that purges stores is made: what counts them sees all that there are.
    pub purges: Mutex<()>,
}

impl Closures {
    /// Whether one more may begin now. Two that ask at the same time can't both be the last.
    pub fn admits(&self, id: &str, now: Timestamp, breaker: u32, records: &Store<ConnectionRecord>) -> bool {
        let recorded = records
            .state()
            .into_iter()
            .filter_map(|record| Some((record.name_any(), began(closure(&record)?)?)));
        self.admits_beside(id, now, breaker, recorded)
    }

    fn admits_beside(
        &self,
        id: &str,
        now: Timestamp,
        breaker: u32,
        recorded: impl Iterator<Item = (String, Timestamp)>,
    ) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let here = begun.iter().filter_map(|(id, at)| Some((id.clone(), (*at)?)));
        let recent = here.chain(recorded).filter(|(_, at)| now.duration_since(*at) < WINDOW);
        let recent: HashSet<_> = recent.map(|(id, _)| id).collect();
        let admitted = recent.contains(id) || recent.len() < usize::try_from(breaker).unwrap_or(usize::MAX);
        if admitted {
            begun.insert(id.to_owned(), Some(now));
        }
        admitted
    }

    /// It begins now: nothing may be made for this connection any more.
    pub fn begins(&self, id: &str) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default();
    }

    /// Whether it has begun, or is about to.
    pub fn has_begun(&self, id: &str) -> bool {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// It hasn't: it was taken back before it was written.
    pub fn forget(&self, id: &str) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// When a closure began that somebody asked for.
fn began(proof: &ClosureProof) -> Option<Timestamp> {
    let asked = [ClosureCause::ConnectionConfirmed, ClosureCause::RecordConfirmed].contains(&proof.cause);
    asked.then_some(proof.began_at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).expect("in range")
    }

    #[test]
    fn at_most_as_many_begin_within_an_hour_as_the_breaker_lets_pass() {
        let closures = Closures::default();
        let recorded = || [("r".to_owned(), at(0)), ("a".to_owned(), at(1))].into_iter();
        let asks = |id: &str, minutes| closures.admits_beside(id, at(minutes), 3, recorded());
        assert!(asks("a", 1), "it has begun already");
        assert!(asks("b", 2));
        assert!(!asks("c", 3), "r, a and b began within the hour");
        assert!(asks("b", 4), "asked again after a failure");
        assert!(asks("c", 60), "r's hour is over");
        assert!(!asks("d", 60));
        assert!(!Closures::default().admits_beside("a", at(0), 0, std::iter::empty()), "0: every one waits");
    }
}
