//! Whether the relay's audit log continues the one whose head was pinned. Pure.

use jiff::Timestamp;
use marketrelay_api::{ConditionType, MarketplaceConnectionStatus, Reason, connection::PinnedAudit};
use marketrelay_audit::Statement;

use super::status::{Relay, unchanged};
use crate::conditions::{Status, Verdict, seconds};

/// What mends a contradiction, once a person knows where it comes from.
const LOOK: &str = "find out why, keep an export of the log (docs/operations/audit.md), and remove status.audit of the \
                    connection to have the present head taken";

/// The condition `AuditIntact`, and the head that is pinned from now on.
pub fn intact(
    relay: &Relay,
    before: &MarketplaceConnectionStatus,
    now: Timestamp,
) -> (Verdict, Option<PinnedAudit>) {
    let kind = ConditionType::AuditIntact;
    let pinned = before.audit.clone();
    let Relay::Answered(status) = relay else { return (unchanged(&before.conditions, kind), pinned) };
    let Some(head) = &status.audit else {
        let message = "the relay tells no signed head of its audit log: its keyring can't be used or has no key for it \
                       yet, or the relay is an older version";
        return (Verdict::new(Status::Unknown, Reason::AuditUnsigned, message), pinned);
    };
    if let Some((reason, message)) = contradiction(head, pinned.as_ref()) {
        return (Verdict::new(Status::False, reason, format!("{message}: {LOOK}")), pinned);
    }
    let head = PinnedAudit {
        chain: head.chain.clone(),
        sequence: i64::try_from(head.sequence).unwrap_or(i64::MAX),
        hash: head.hash.clone(),
        public_key: head.public_key.clone(),
        checked_at: seconds(now),
    };
    let message = "the audit log's head is signed, and the log continues the one that was seen before";
    (Verdict::new(Status::True, Reason::AuditIntact, message), Some(head))
}

/// What doesn't fit; without a pinned head, any that is signed with its own key does.
fn contradiction(head: &Statement, pinned: Option<&PinnedAudit>) -> Option<(Reason, String)> {
    let key = pinned.map_or(&head.public_key, |pinned| &pinned.public_key);
    if !head.is_signed_by(key) {
        let message = format!("the audit log's head isn't signed with the key {key}");
        return Some((Reason::AuditKeyChanged, message));
    }
    let pinned = pinned?;
    if head.chain != pinned.chain {
        let message = format!(
            "the relay's audit log is {}, it was {}: its volume was begun anew or exchanged",
            head.chain, pinned.chain
        );
        return Some((Reason::AuditBegunAnew, message));
    }
    let (known, told) = (pinned.sequence.unsigned_abs(), head.sequence);
    if told < known {
        let message = format!("the audit log ends with record {told}, though record {known} was seen before");
        return Some((Reason::AuditRewritten, message));
    }
    (told == known && head.hash != pinned.hash).then(|| {
        (
            Reason::AuditRewritten,
            format!("record {known} of the audit log is another one than was seen before"),
        )
    })
}

#[cfg(test)]
mod tests {
    use marketrelay_api::relay::RelayStatus;
    use marketrelay_audit::{Kind, Position, Signer};

    use super::*;

    fn head(seed: u8, chain: &str, sequence: u64, hash: u8) -> Statement {
        let signer = Signer::new(&[seed; 32]).expect("a key");
        signer.sign(Kind::Head, chain, Position { sequence, hash: [hash; 32] }, Timestamp::UNIX_EPOCH)
    }

    fn told(audit: Option<Statement>) -> Relay {
        Relay::Answered(Box::new(RelayStatus { audit, ..RelayStatus::default() }))
    }

    fn after(audit: Option<PinnedAudit>) -> MarketplaceConnectionStatus {
        MarketplaceConnectionStatus { audit, ..MarketplaceConnectionStatus::default() }
    }

    #[test]
    fn a_head_that_contradicts_the_pinned_one_is_told_and_not_pinned() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let (first, pinned) = intact(&told(Some(head(1, "a", 7, 7))), &after(None), now);
        assert_eq!(first.reason, "AuditIntact");
        let before = after(pinned);
        let mut unsigned = head(1, "a", 9, 9);
        unsigned.sequence = 10;
        for (next, reason, follows) in [
            (head(1, "a", 7, 7), "AuditIntact", true),
            (head(1, "a", 9, 9), "AuditIntact", true),
            (head(1, "a", 6, 6), "AuditRewritten", false),
            (head(1, "a", 7, 8), "AuditRewritten", false),
            (head(1, "b", 9, 9), "AuditBegunAnew", false),
            (head(2, "a", 9, 9), "AuditKeyChanged", false),
            (unsigned, "AuditKeyChanged", false),
        ] {
            let (verdict, pinned) = intact(&told(Some(next.clone())), &before, now);
            assert_eq!(
                (verdict.reason.as_str(), verdict.status == Status::True),
                (reason, follows),
                "{next:?}"
            );
            let pinned = pinned.expect("one is pinned");
            let expected = if follows { next.sequence } else { 7 };
            assert_eq!(pinned.sequence.unsigned_abs(), expected, "{next:?}");
        }
        let (verdict, pinned) = intact(&told(None), &before, now);
        assert_eq!((verdict.reason.as_str(), pinned), ("AuditUnsigned", before.audit.clone()));
        assert_eq!(intact(&Relay::NotAsked, &before, now).1, before.audit);
    }
}
