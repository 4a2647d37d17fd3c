//! What is to be done with a record. Pure: the same for whoever leads, however often it was interrupted.

use marketrelay_api::record::{ClosureCause, RecordPhase};

/// What the stores know of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// As the record says.
    pub phase: RecordPhase,
    /// The connection.
    pub connection: Connection,
    /// The record's `spec.closure.confirm` is.
    pub confirmed: bool,
    /// Its keyring exists.
    pub has_keyring: bool,
}

/// What a connection is to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It doesn't exist.
    Absent,
    /// It exists.
    There,
    /// Its `spec.closure.confirm` is its id.
    AsksForClosure,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Note where it is.
    Mark(RecordPhase),
    /// Begin, unless it has to be confirmed first.
    Begin(ClosureCause),
    /// Its keys may be gone: ask the API server.
    Investigate,
    /// Go on until nothing is left.
    Purge,
}

/// `None`: the record is as it should be.
pub fn next(seen: Seen) -> Option<Step> {
    match seen.phase {
        RecordPhase::Closed => return None,
        RecordPhase::Closing => return Some(Step::Purge),
        RecordPhase::Active | RecordPhase::Retained | RecordPhase::AwaitingConfirmation => {}
    }
    if seen.confirmed {
        return Some(Step::Begin(ClosureCause::RecordConfirmed));
    }
    if seen.connection == Connection::AsksForClosure {
        let begin = Step::Begin(ClosureCause::ConnectionConfirmed);
        return (seen.phase != RecordPhase::AwaitingConfirmation).then_some(begin);
    }
    let is_absent = seen.connection == Connection::Absent;
    if is_absent && !seen.has_keyring {
        return Some(Step::Investigate);
    }
    let phase = if is_absent { RecordPhase::Retained } else { RecordPhase::Active };
    (phase != seen.phase).then_some(Step::Mark(phase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RecordPhase::{Active, AwaitingConfirmation, Closed, Closing, Retained};

    /// Phase, and which of: connection, asked, confirmed on the record, keyring.
    fn seen(phase: RecordPhase, what: &str) -> Seen {
        let has = |letter: char| what.contains(letter);
        let connection = match (has('a'), has('c')) {
            (true, _) => Connection::AsksForClosure,
            (false, true) => Connection::There,
            (false, false) => Connection::Absent,
        };
        Seen { phase, connection, confirmed: has('r'), has_keyring: has('k') }
    }

    #[test]
    fn closing_needs_the_id_and_waits_for_the_record_alone_once_it_has_to() {
        let asked = Some(Step::Begin(ClosureCause::ConnectionConfirmed));
        let confirmed = Some(Step::Begin(ClosureCause::RecordConfirmed));
        for (phase, what, expected) in [
            (Active, "ck", None),
            (Active, "c", None),
            (Active, "cak", asked),
            (Retained, "cak", asked),
            (AwaitingConfirmation, "cak", None),
            (AwaitingConfirmation, "cakr", confirmed),
            (AwaitingConfirmation, "ck", Some(Step::Mark(Active))),
            (AwaitingConfirmation, "k", Some(Step::Mark(Retained))),
            (Active, "k", Some(Step::Mark(Retained))),
            (Retained, "k", None),
            (Retained, "ck", Some(Step::Mark(Active))),
            (Retained, "kr", confirmed),
            (Active, "ckr", confirmed),
            (Retained, "r", confirmed),
            (Active, "", Some(Step::Investigate)),
            (Retained, "", Some(Step::Investigate)),
            (AwaitingConfirmation, "", Some(Step::Investigate)),
        ] {
            assert_eq!(next(seen(phase, what)), expected, "{phase:?} {what}");
        }
    }

    #[test]
    fn there_is_no_way_back_from_closing_and_nothing_after_closed() {
        for what in ["", "c", "ck", "cak", "cakr", "k", "kr"] {
            assert_eq!(next(seen(Closing, what)), Some(Step::Purge), "{what}");
            assert_eq!(next(seen(Closed, what)), None, "{what}");
        }
    }
}
