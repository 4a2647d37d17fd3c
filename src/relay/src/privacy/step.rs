//! What an order's key needs, judged by its deadline.

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{DestroyAt, Keyring};

/// What to do with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its key dies at the deadline, or less than a key epoch before it.
    Keep,
    /// Seal it under this key, which dies sooner, or closer to the deadline.
    Reseal(DestroyAt),
    /// Its time has come, or the key for its deadline is dead already.
    Reduce,
    /// It must be gone before its key dies, and the keyring has no key for that yet: the operator is about to add it.
    Wait,
}

/// The step for an order that is sealed under `current` and must be gone at `deadline`. A key that dies less than
/// `epoch` before the deadline is good enough, so that an order isn't sealed anew for every small move.
pub fn step(
    current: DestroyAt,
    deadline: Timestamp,
    keyring: &Keyring,
    epoch: SignedDuration,
    now: Timestamp,
) -> Step {
    if current.is_due(now) || deadline <= now {
        return Step::Reduce;
    }
    let early = deadline.as_second() - current.as_second();
    if (0..epoch.as_secs().max(1)).contains(&early) {
        return Step::Keep;
    }
    match keyring.name_for(deadline, now) {
        Some(name) if early < 0 || name > current => Step::Reseal(name),
        Some(_) => Step::Keep,
        None if early >= 0 => Step::Keep,
        None if deadline.duration_since(now) < epoch => Step::Reduce,
        None => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use marketrelay_keyring::{ConnectionId, Grid};
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn keyring(epoch: i64, horizon: i64) -> Keyring {
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let grid = Grid::new(&id, SignedDuration::from_secs(epoch));
        let mut keyring = Keyring::generate(id).expect("random bytes");
        keyring.extend(grid, at(0), at(horizon)).expect("random bytes");
        keyring
    }

    #[test]
    fn a_deadline_before_the_first_finer_key_waits_for_it() {
        let keyring = keyring(24 * HOUR, 240 * HOUR);
        let last = keyring.live(at(0)).last().expect("keys");
        let hour = SignedDuration::from_secs(HOUR);
        assert_eq!(step(last, at(3 * HOUR / 2), &keyring, hour, at(0)), Step::Wait);
        assert_eq!(step(last, at(HOUR / 2), &keyring, hour, at(0)), Step::Reduce);
    }

    proptest! {
        #[test]
        fn after_its_step_an_order_is_gone_in_time_and_less_than_an_epoch_early(
            current in 1_i64..400, deadline in 1_i64..400 * HOUR, now in 0_i64..400 * HOUR,
        ) {
            let (keyring, epoch) = (keyring(HOUR, 400 * HOUR), SignedDuration::from_secs(HOUR));
            let current = keyring.live(at(0)).nth(usize::try_from(current).expect("small")).expect("a key");
            let sealed = match step(current, at(deadline), &keyring, epoch, at(now)) {
                Step::Keep => current,
                Step::Reseal(name) => {
                    prop_assert_ne!(name, current);
                    name
                }
                Step::Reduce => {
                    prop_assert!(deadline - now < HOUR || current.is_due(at(now)));
                    return Ok(());
                }
                Step::Wait => return Err(TestCaseError::fail("the keyring has every key")),
            };
            prop_assert!(sealed.as_second() > now && sealed.as_second() <= deadline);
            prop_assert!(deadline - sealed.as_second() < HOUR);
            // Once is enough.
            prop_assert_eq!(step(sealed, at(deadline), &keyring, epoch, at(now)), Step::Keep);
        }
    }
}
