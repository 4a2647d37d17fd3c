//! Delivering: the outbox to the customer's endpoint, one message at a time, in order per order.

pub mod body;
pub mod schedule;
pub mod send;
pub mod signature;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::WebhookConfig;
use marketrelay_keyring::{ConnectionId, Digest, DigestKey, Keyring, OpenError};
use marketrelay_marketplace::Marketplace;
use reqwest::Client;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    activity::Reporter,
    clock::Clock,
    metrics::Metrics,
    mounts::Mounted,
    store::{
        Result, Store, UnreadableSnafu,
        delivery::{self, DeliveryRow, Outcome},
        outbox::{self, Event, Message},
    },
};
use send::Answer;
use signature::Signer;

/// The outbox is looked at this often even if nobody says that there is something new.
const IDLE: Duration = Duration::from_mins(1);
/// After a failure of our own database.
const TROUBLE: Duration = Duration::from_secs(5);

/// What delivering needs.
pub struct Deliverer {
    /// The database.
    pub store: Store,
    /// The client.
    pub client: Client,
    /// The destination.
    pub webhook: WebhookConfig,
    /// Whose events.
    pub id: ConnectionId,
    /// Of which marketplace.
    pub marketplace: Marketplace,
    /// For the destination's digest.
    pub digest_key: Arc<DigestKey>,
    /// The mounted keyring.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// The mounted signing Secret.
    pub signer: watch::Receiver<Mounted<Signer>>,
    /// Rung when there is something new.
    pub bell: Arc<Notify>,
    /// Tells how it goes.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

/// A rendered event.
type Json = Zeroizing<Vec<u8>>;

/// What to do after a step.
enum Next {
    Again,
    Wait(Duration),
}

/// A message with its body.
struct Rendered {
    message: Message,
    body: Zeroizing<Vec<u8>>,
}

impl Deliverer {
    /// Delivers until `stop`; an attempt that was begun is finished.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = match self.step().await {
                Ok(Next::Again) if stop.is_cancelled() => return,
                Ok(Next::Again) => continue,
                Ok(Next::Wait(wait)) => wait,
                Err(error) => {
                    self.reporter.fail(self.clock.now(), error.category(), error.to_string());
                    TROUBLE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.bell.notified() => {}
                _ = self.signer.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Next> {
        let now = self.clock.now();
        let mounted = (self.signer.borrow_and_update().clone(), self.keyring.borrow().clone());
        let (signer, keyring) = match mounted {
            (Ok(signer), Ok(keyring)) => (signer, keyring),
            (Err(message), _) => return Ok(self.unusable("SigningSecretInvalid", message)),
            (_, Err(message)) => return Ok(self.unusable("KeyringInvalid", message)),
        };
        let row = self.destination(&signer).await?;
        if row.disabled {
            let message = "the destination answered 410 Gone: it wants no more; change spec.destination.webhook.url \
                           or the signing Secret to go on";
            return Ok(self.unusable("DestinationDisabled", message.to_owned()));
        }
        if row.next_attempt_at > now {
            return Ok(Next::Wait(until(row.next_attempt_at, now)));
        }
        let Some(rendered) = self.message(&row, keyring, now).await? else {
            return self.idle(now).await;
        };
        self.attempt(&row, &signer, rendered).await
    }

    fn unusable(&self, reason: &str, message: String) -> Next {
        self.reporter.fail(self.clock.now(), reason, message);
        Next::Wait(IDLE)
    }

    /// The row of the destination as it is configured now.
    async fn destination(&self, signer: &Signer) -> Result<DeliveryRow> {
        let mut identity = Zeroizing::new(self.webhook.url.as_str().as_bytes().to_vec());
        identity.extend_from_slice(signer.identity());
        let target = self.digest_key.content(&identity);
        let row = self.store.read(delivery::read).await?;
        if row.target == Some(target) {
            return Ok(row);
        }
        self.store.write(move |connection| changed(connection, target)).await
    }

    /// Nothing is due: a destination that was never refused anything counts as working.
    async fn idle(&self, now: Timestamp) -> Result<Next> {
        let due = self.store.read(delivery::next_due).await?;
        if due.is_none() {
            self.reporter.succeed(now);
        }
        Ok(Next::Wait(due.map_or(IDLE, |due| until(due, now))))
    }

    /// The message to send: the one that was begun, or a new one; `None` if nothing is due.
    async fn message(
        &self,
        row: &DeliveryRow,
        keyring: Arc<Keyring>,
        now: Timestamp,
    ) -> Result<Option<Rendered>> {
        let most = row
            .max_events
            .map_or(self.webhook.batch.max_events, |few| few.min(self.webhook.batch.max_events));
        let begun = row.clone();
        let events = self
            .store
            .read(move |connection| outbox::candidates(connection, &begun, &keyring, most, now))
            .await?;
        let lost = expired(&events, now)?;
        if !lost.is_empty() {
            tracing::warn!(events = lost.len(), "given up: the key of their orders is gone");
            self.store.write(move |connection| outbox::give_up(connection, &lost)).await?;
            return Box::pin(self.message(&DeliveryRow { message: None, ..row.clone() }, self.alive()?, now))
                .await;
        }
        if events.is_empty() {
            return Ok(None);
        }
        let limit = if row.message.is_some() { usize::MAX } else { self.webhook.batch.max_bytes as usize };
        let (chosen, rendered) = self.render(&events, limit);
        let (id, at) =
            row.message.clone().unwrap_or_else(|| (format!("msg_{}", Uuid::new_v4().simple()), now));
        let body = body::render(self.id.as_str(), self.marketplace, at, &rendered);
        Ok(Some(Rendered { message: Message { id, at, events: chosen }, body }))
    }

    fn alive(&self) -> Result<Arc<Keyring>> {
        self.keyring.borrow().clone().map_err(|_| crate::store::StoreError::KeyringTooShort)
    }

    /// As many events as fit into `limit` bytes, one at least.
    fn render(&self, events: &[Event], limit: usize) -> (Vec<(i64, u64)>, Vec<Json>) {
        let (mut chosen, mut rendered, mut size) = (Vec::new(), Vec::new(), 0);
        for event in events {
            let Ok(order) = &event.order else { continue };
            let json = body::OrderEvent::new(event.id(&self.id), event.revision, order).render();
            size += json.len() + 1;
            if size > limit && !rendered.is_empty() {
                break;
            }
            chosen.push((event.sequence, event.revision));
            rendered.push(json);
        }
        (chosen, rendered)
    }

    async fn attempt(&self, row: &DeliveryRow, signer: &Signer, rendered: Rendered) -> Result<Next> {
        let Rendered { message, body } = rendered;
        if row.message.is_none() {
            let beginning = message.clone();
            if !self.store.write(move |connection| outbox::begin(connection, &beginning)).await? {
                return Ok(Next::Again);
            }
        }
        let now = self.clock.now();
        let answer = send::post(&self.client, &self.webhook.url, signer, &message.id, now, &body).await;
        self.metrics.delivered(&answer, message.events.len());
        let outcome = self.outcome(row, &message, &answer).await?;
        let (most, now) = (self.webhook.batch.max_events, self.clock.now());
        self.report(&answer, &outcome, now);
        self.store
            .write(move |connection| delivery::record(connection, &message, &outcome, most, now))
            .await?;
        Ok(Next::Again)
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
                Outcome::Refused { after: schedule::delay(refusals + 1, None, unit) }
            }
        })
    }

    fn report(&self, answer: &Answer, outcome: &Outcome, now: Timestamp) {
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
            (Answer::Taken, _) => self.reporter.succeed(now),
            _ => {}
        }
    }
}

/// The events whose orders' keys died on time. An order that can't be opened for another reason stops delivery.
fn expired(events: &[Event], now: Timestamp) -> Result<Vec<i64>> {
    let mut expired = Vec::new();
    for event in events {
        match &event.order {
            Ok(_) => {}
            Err(OpenError::KeyGone { name }) if name.is_due(now) => expired.push(event.sequence),
            Err(error) => return UnreadableSnafu { reason: error.to_string() }.fail(),
        }
    }
    Ok(expired)
}

fn changed(connection: &rusqlite::Connection, target: Digest) -> Result<DeliveryRow> {
    delivery::reset(connection, target)?;
    delivery::read(connection)
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().min(IDLE)
}

fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}
