//! Records go when they are old enough; a signed checkpoint takes their place.

use jiff::{SignedDuration, Timestamp};
use marketrelay_audit::{Hash, Kind, Position, Signer};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Action, Actor, Deed, append, head};
use crate::store::Result;

/// Records that go in one transaction.
pub const MOST: u64 = 5_000;
/// Once a day is enough; each time leaves a record.
const SLACK: SignedDuration = SignedDuration::from_hours(24);

/// Removes what is older than `retention`, once the oldest record is by a day, at most [`MOST`] records; says how many.
/// The remaining ones are verified from the checkpoint.
pub fn prune(
    connection: &Connection,
    signer: &Signer,
    retention: SignedDuration,
    now: Timestamp,
) -> Result<u64> {
    let cutoff = now.checked_sub(retention).unwrap_or(Timestamp::MIN);
    let Some(last) = last_to_go(connection, cutoff)? else { return Ok(0) };
    let hash: Hash =
        connection.query_row("SELECT hash FROM audit WHERE sequence = ?1", [last], |row| row.get(0))?;
    let (chain, _) = head(connection)?;
    let checkpoint = signer.sign(Kind::Checkpoint, &chain, Position { sequence: last, hash }, now);
    connection
        .execute("UPDATE audit_chain SET pruned = ?1, checkpoint = ?2", params![last, checkpoint.line()])?;
    let pruned = connection.execute("DELETE FROM audit WHERE sequence <= ?1", [last])? as u64;
    let deed = Deed::new(Action::AuditPruned, Actor::Relay, format!("1 to {last}")).of(pruned);
    append(connection, &deed, now)?;
    Ok(pruned)
}

/// The last record before the first one that is young enough.
fn last_to_go(connection: &Connection, cutoff: Timestamp) -> Result<Option<u64>> {
    let oldest: Option<(u64, i64)> = connection
        .query_row("SELECT sequence, at FROM audit ORDER BY sequence LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let long_ago = cutoff.checked_sub(SLACK).unwrap_or(Timestamp::MIN).as_millisecond();
    let Some((first, _)) = oldest.filter(|(_, at)| *at <= long_ago) else { return Ok(None) };
    let young: Option<u64> = connection
        .query_row(
            "SELECT sequence FROM audit WHERE at > ?1 ORDER BY sequence LIMIT 1",
            [cutoff.as_millisecond()],
            |row| row.get(0),
        )
        .optional()?;
    let last = match young {
        Some(young) => young - 1,
        None => head(connection)?.1.sequence,
    };
    Ok(Some(last.min(first + MOST - 1)))
}
