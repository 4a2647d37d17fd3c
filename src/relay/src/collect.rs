//! Collecting: the marketplace's pages into the database, without a gap.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use marketrelay_keyring::{DigestKey, Keyring, Limits};
use marketrelay_marketplace::{CollectError, Collector, Credentials, Cursor, Page};
use rand::RngExt;
use snafu::Snafu;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Reporter,
    audit::{self, Action, Actor, Deed},
    clock::Clock,
    metrics::Metrics,
    mounts::Mounted,
    store::{
        Prepared, Store, StoreError,
        ingest::{self, Ingested},
    },
};

/// After the first failure; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Even if the marketplace asks for less.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Refused credentials wait for their Secret; the marketplace may change its mind too.
const REFUSED_RETRY: Duration = Duration::from_mins(10);

/// What collecting needs.
pub struct Collecting {
    /// The marketplace's client.
    pub collector: Box<dyn Collector>,
    /// The database.
    pub store: Store,
    /// Between polls.
    pub interval: Duration,
    /// How far back the first poll looks.
    pub lookback: SignedDuration,
    /// The retention in effect.
    pub limits: Limits,
    /// The mounted key of the orders' digests.
    pub digest_key: watch::Receiver<Mounted<DigestKey>>,
    /// The mounted keyring.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// The mounted credentials.
    pub credentials: watch::Receiver<Mounted<Credentials>>,
    /// Rung when orders were stored, for delivering.
    pub bell: Arc<Notify>,
    /// Rung when orders were stored, for keeping their deadlines.
    pub deadlines: Arc<Notify>,
    /// Tells how it goes.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

/// What of the mounts is in use already.
#[derive(Default)]
struct InUse {
    credentials: Option<Arc<Credentials>>,
    digest_key: Option<Arc<DigestKey>>,
}

/// Why a step failed.
#[derive(Debug, Snafu)]
enum Failure {
    #[snafu(display("{source}"), context(false))]
    Marketplace { source: CollectError },
    #[snafu(display("{source}"), context(false))]
    Store { source: StoreError },
    #[snafu(display("{message}"))]
    Unusable { reason: &'static str, message: String },
}

impl Failure {
    fn category(&self) -> &'static str {
        match self {
            Self::Marketplace { source } => source.category(),
            Self::Store { source } => source.category(),
            Self::Unusable { reason, .. } => reason,
        }
    }

    /// How long to wait after `failures` failures in a row.
    fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Marketplace { source: CollectError::Unauthorized { .. } } => REFUSED_RETRY,
            Self::Marketplace { source } => {
                source.retry_after().map_or_else(|| doubled(failures), |asked| asked.max(SHORTEST_RETRY))
            }
            _ => doubled(failures),
        }
    }
}

fn doubled(failures: u32) -> Duration {
    let doubled = FIRST_RETRY * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_RETRY).mul_f64(rand::rng().random_range(0.75..1.25))
}

fn usable<T>(mounted: Mounted<T>, reason: &'static str) -> Result<Arc<T>, Failure> {
    mounted.map_err(|message| Failure::Unusable { reason, message })
}

impl Collecting {
    /// Collects until `stop`; a page that was begun is stored first.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut failures, mut in_use) = (0, InUse::default());
        loop {
            let wait = match self.step(&mut in_use, &stop).await {
                Ok(None) => return,
                Ok(Some(more)) => {
                    failures = 0;
                    self.reporter.succeed(self.clock.now());
                    if more {
                        Duration::ZERO
                    } else {
                        self.interval.mul_f64(rand::rng().random_range(0.95..1.05))
                    }
                }
                Err(failure) => {
                    failures += 1;
                    if self.is_new_refusal(&failure)
                        && let Err(error) = self.record(Action::CredentialsRejected, Actor::Marketplace).await
                    {
                        tracing::warn!(%error, "a refusal can't be recorded");
                    }
                    self.metrics.collecting_failed(failure.category());
                    self.reporter.fail(self.clock.now(), failure.category(), failure.to_string());
                    failure.pause(failures)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.credentials.changed() => if changed.is_ok() { failures = 0 } else { return },
                changed = self.keyring.changed(), if failures > 0 => if changed.is_err() { return },
                changed = self.digest_key.changed(), if failures > 0 => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One page; whether there is more at once, or nothing when asked to stop. Nothing is lost by not waiting for the
    /// marketplace; a page that is there is stored.
    async fn step(&mut self, in_use: &mut InUse, stop: &CancellationToken) -> Result<Option<bool>, Failure> {
        self.take_credentials(in_use).await?;
        let digest_key = self.take_digest_key(in_use).await?;
        usable(self.keyring.borrow_and_update().clone(), "KeyringInvalid")?;
        let now = self.clock.now();
        let stored = self.store.read(ingest::cursor).await?;
        let cursor = stored.unwrap_or_else(|| self.collector.start(now - self.lookback));
        let Some(page) = stop.run_until_cancelled(self.collector.page(&cursor, now)).await else {
            return Ok(None);
        };
        let page = page?;
        let more = page.more;
        let ingested = self.ingest(page, &cursor, &digest_key).await?;
        self.metrics.ingested(ingested);
        if ingested.new + ingested.changed > 0 {
            tracing::info!(new = ingested.new, changed = ingested.changed, "stored");
            self.deadlines.notify_one();
        }
        if ingested.new + ingested.changed > 0 || !more {
            self.bell.notify_one();
        }
        if ingested.dropped > 0 {
            tracing::debug!(orders = ingested.dropped, "not stored: past their deadline");
        }
        Ok(Some(more))
    }

    async fn take_credentials(&mut self, in_use: &mut InUse) -> Result<(), Failure> {
        let mounted = self.credentials.borrow_and_update().clone();
        let mounted = usable(mounted, "CredentialsIncomplete")?;
        if in_use.credentials.as_ref().is_none_or(|used| !Arc::ptr_eq(used, &mounted)) {
            self.collector.set_credentials(Credentials::clone(&mounted));
            self.record(Action::CredentialsTaken, Actor::Operator).await?;
            in_use.credentials = Some(mounted);
        }
        Ok(())
    }

    async fn record(&mut self, action: Action, actor: Actor) -> Result<(), StoreError> {
        let (deed, now) = (Deed::new(action, actor, "credentials"), self.clock.now());
        self.store.write(move |connection| audit::append(connection, &deed, now)).await
    }

    /// Whether the marketplace refuses the credentials, and did not so before.
    fn is_new_refusal(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::Marketplace { source: CollectError::Unauthorized { .. } })
            && self.reporter.get().reason.as_deref() != Some(failure.category())
    }

    async fn take_digest_key(&mut self, in_use: &mut InUse) -> Result<Arc<DigestKey>, Failure> {
        let mounted = self.digest_key.borrow_and_update().clone();
        let mounted = usable(mounted, "DigestKeyInvalid")?;
        if in_use.digest_key.as_ref().is_none_or(|used| !Arc::ptr_eq(used, &mounted)) {
            self.store.claim_digest_key(&mounted).await?;
            in_use.digest_key = Some(mounted.clone());
        }
        Ok(mounted)
    }

    async fn ingest(
        &mut self,
        page: Page,
        before: &Cursor,
        digest_key: &DigestKey,
    ) -> Result<Ingested, Failure> {
        let unchanged = page.orders.is_empty() && page.cursor == *before && page.known_until.is_none();
        if unchanged {
            return Ok(Ingested::default());
        }
        let orders = page.orders.into_iter().map(|order| Prepared::new(order, digest_key)).collect();
        let page = ingest::Page { orders, cursor: page.cursor, known_until: page.known_until };
        // The marketplace may have taken its time: the keyring as it is now.
        let keyring = usable(self.keyring.borrow_and_update().clone(), "KeyringInvalid")?;
        let (limits, now) = (self.limits, self.clock.now());
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, limits, now);
        Ok(self.store.write(ingest).await?)
    }
}
