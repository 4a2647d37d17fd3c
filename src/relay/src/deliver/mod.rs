//! Delivering: the outbox to the customer's endpoint, one message at a time, in order per order.

pub mod body;
mod message;
mod result;
pub mod schedule;
pub mod send;
pub mod signature;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use marketrelay_api::relay::WebhookConfig;
use marketrelay_keyring::{ConnectionId, Digest, DigestKey, Keyring};
use marketrelay_marketplace::Marketplace;
use reqwest::Client;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    activity::Reporter,
    clock::Clock,
    metrics::Metrics,
    mounts::Mounted,
    store::{
        Result, Store,
        delivery::{self, DeliveryRow},
        ingest, outbox,
    },
};
use message::{Chosen, Rendered};
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
    /// The mounted digest key, for the destination's digest.
    pub digest_key: watch::Receiver<Mounted<DigestKey>>,
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

/// What to do after a step.
enum Next {
    Again,
    Wait(Duration),
}

/// The mounts, all usable.
struct Mounts {
    signer: Arc<Signer>,
    keyring: Arc<Keyring>,
    digest_key: Arc<DigestKey>,
}

impl Deliverer {
    /// Delivers until `stop`; an attempt that was begun is finished.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.step().await {
                Ok(Next::Again) => continue,
                Ok(Next::Wait(wait)) => wait,
                Err(error) => {
                    self.reporter.fail(self.clock.now(), error.category(), error.to_string());
                    TROUBLE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.bell.notified() => {}
                _ = self.signer.changed() => {}
                _ = self.keyring.changed() => {}
                _ = self.digest_key.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Next> {
        let now = self.clock.now();
        let mounts = match self.mounts() {
            Ok(mounts) => mounts,
            Err((reason, message)) => return Ok(self.unusable(reason, message)),
        };
        let row = self.destination(&mounts).await?;
        if row.disabled {
            let message = "the destination answered 410 Gone: it wants no more; change spec.destination.webhook.url \
                           or the signing Secret to go on";
            return Ok(self.unusable("DestinationDisabled", message.to_owned()));
        }
        if row.next_attempt_at > now {
            self.remind(&row, now);
            return Ok(Next::Wait(until(row.next_attempt_at, now)));
        }
        match self.message(&row, &mounts.keyring, now).await? {
            Chosen::Message(rendered) => self.attempt(&row, &mounts.signer, rendered).await,
            Chosen::GaveUp => Ok(Next::Again),
            Chosen::Nothing => self.idle(now).await,
        }
    }

    /// What is mounted now, or the reason and the message why it can't be used.
    fn mounts(&mut self) -> Result<Mounts, (&'static str, String)> {
        let of = |reason| move |message| (reason, message);
        Ok(Mounts {
            signer: self.signer.borrow_and_update().clone().map_err(of("SigningSecretInvalid"))?,
            keyring: self.keyring.borrow_and_update().clone().map_err(of("KeyringInvalid"))?,
            digest_key: self.digest_key.borrow_and_update().clone().map_err(of("DigestKeyInvalid"))?,
        })
    }

    fn unusable(&self, reason: &str, message: String) -> Next {
        self.reporter.fail(self.clock.now(), reason, message);
        Next::Wait(IDLE)
    }

    /// The row of the destination as it is configured now.
    async fn destination(&self, mounts: &Mounts) -> Result<DeliveryRow> {
        let mut identity = Zeroizing::new(self.webhook.url.as_str().as_bytes().to_vec());
        identity.extend_from_slice(mounts.signer.identity());
        let target = mounts.digest_key.content(&identity);
        let row = self.store.read(delivery::read).await?;
        if row.target == Some(target) {
            return Ok(row);
        }
        let now = self.clock.now();
        self.store.write(move |connection| changed(connection, target, now)).await
    }

    /// Nothing is due. Once everything that the marketplace told has been taken, the destination works; before the
    /// first orders have come, nothing is known of it.
    async fn idle(&self, now: Timestamp) -> Result<Next> {
        let (due, refused, collected) = self
            .store
            .read(|connection| {
                let (due, refused) =
                    (delivery::next_due(connection)?, delivery::waiting_refused(connection)?);
                Ok((due, refused, ingest::has_collected(connection)?))
            })
            .await?;
        if refused > 0 {
            self.still_refused(refused, now);
        } else if collected {
            self.reporter.succeed(now);
        }
        Ok(Next::Wait(due.map_or(IDLE, |due| until(due, now))))
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
        let answer = send::post(&self.client, &self.webhook.url, signer, &message.id, now, body).await;
        self.metrics.delivered(&answer, message.events.len());
        self.record(row, message, &answer).await?;
        Ok(Next::Again)
    }
}

fn changed(connection: &rusqlite::Connection, target: Digest, now: Timestamp) -> Result<DeliveryRow> {
    delivery::reset(connection, target, now)?;
    delivery::read(connection)
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().min(IDLE)
}
