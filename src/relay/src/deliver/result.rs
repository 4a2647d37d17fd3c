//! What comes of an attempt: for the outbox, for the next attempt, for who looks at the status.

use jiff::{SignedDuration, Timestamp};

use super::{Deliverer, schedule, send::Answer};
use crate::store::{
    Result,
    delivery::{self, DeliveryRow, Outcome},
    outbox::Message,
};

/// A destination that refuses so many events one after another, each by itself, is left alone for a while.
const PATIENCE: u32 = 5;

impl Deliverer {
    /// Records the answer and tells of it.
    pub(super) async fn record(&self, row: &DeliveryRow, message: Message, answer: &Answer) -> Result<()> {
        let outcome = self.outcome(row, &message, answer).await?;
        let (most, now) = (self.webhook.batch.max_events, self.clock.now());
        let recorded = outcome.clone();
        self.store
            .write(move |connection| delivery::record(connection, &message, &recorded, most, now))
            .await?;
        self.report(answer, &outcome).await
    }

    async fn outcome(&self, row: &DeliveryRow, message: &Message, answer: &Answer) -> Result<Outcome> {
        let unit = rand::random();
        Ok(match answer {
            Answer::Taken => Outcome::Delivered,
            Answer::Gone => Outcome::Gone,
            Answer::Failed { retry_after, .. } => {
                Outcome::Failed { after: schedule::delay(row.failures + 1, *retry_after, unit) }
            }
            Answer::Refused { .. } => {
                let first = message.events.first().map_or(0, |(sequence, _)| *sequence);
                let refusals =
                    self.store.read(move |connection| delivery::refusals(connection, first)).await?;
                let tried = (row.refusals + 1).checked_sub(PATIENCE);
                Outcome::Refused {
                    after: schedule::delay(refusals + 1, None, unit),
                    pause: tried.map(|tried| schedule::delay(tried + 1, None, unit)),
                }
            }
        })
    }

    async fn report(&self, answer: &Answer, outcome: &Outcome) -> Result<()> {
        let now = self.clock.now();
        match (answer, outcome) {
            (Answer::Failed { detail, .. }, Outcome::Failed { after }) => {
                let message = format!(
                    "the destination doesn't take orders: {detail}; next attempt in {}",
                    short(*after)
                );
                self.reporter.fail(now, "DestinationFails", message);
            }
            (Answer::Refused { status }, _) => {
                let message = format!(
                    "the destination refuses the content of an event with HTTP {status}; it is tried again alone"
                );
                self.reporter.fail(now, "ContentRefused", message);
            }
            // One that still waits isn't forgotten because another one was taken.
            (Answer::Taken, _) => match self.store.read(delivery::waiting_refused).await? {
                0 => self.reporter.succeed(now),
                refused => self.still_refused(refused, now),
            },
            _ => {}
        }
        Ok(())
    }

    /// Some events wait by themselves because the destination refused them.
    pub(super) fn still_refused(&self, events: u64, now: Timestamp) {
        let message = format!(
            "the destination refuses the content of {events} of the events; they are tried again one by one"
        );
        self.reporter.fail(now, "ContentRefused", message);
    }

    /// After a restart the database alone knows that the destination fails.
    pub(super) fn remind(&self, row: &DeliveryRow, now: Timestamp) {
        if self.reporter.get().reason.is_none() {
            let after = short(row.next_attempt_at.duration_since(now));
            let (failures, refusals) = (row.failures, row.refusals);
            let (reason, times) =
                if failures > 0 { ("DestinationFails", failures) } else { ("ContentRefused", refusals) };
            let message =
                format!("the destination took nothing {times} times in a row; next attempt in {after}");
            self.reporter.fail(now, reason, message);
        }
    }
}

fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}
