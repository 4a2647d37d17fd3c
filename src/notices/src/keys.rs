//! eBay's public keys, asked for once an hour each. An id that eBay doesn't know is remembered too, and look-ups have a limit of
//! their own, so that forged headers can't make us hammer eBay.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use marketrelay_marketplace::{CollectError, Credentials, Endpoints, ebay};
use marketrelay_pod::mounts::Mounted;
use reqwest::Client;
use snafu::{ResultExt, Snafu};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{Instant, timeout},
};

use crate::{metrics::Metrics, settings::Application, signature::VerifyingKey};

/// eBay's advice.
const KEPT: Duration = Duration::from_hours(1);
/// A new key of eBay's may be told of before it can be asked for.
const UNKNOWN_KEPT: Duration = Duration::from_mins(10);
/// More ids than look-ups allow in that time.
const MOST: usize = 256;
const LOOK_UPS_AT_ONCE: u32 = 10;
const BETWEEN_LOOK_UPS: Duration = Duration::from_secs(6);
/// For token and key together.
const TIME: Duration = Duration::from_secs(10);

/// Why a key can't be had now.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[snafu(display("too many unknown keys were asked for"))]
    Limited,
    #[snafu(display("the application's Secret: {reason}"))]
    Application { reason: String },
    #[snafu(display("{source}"))]
    Ebay { source: CollectError },
    #[snafu(display("eBay didn't answer within {} s", TIME.as_secs()))]
    Late,
    #[snafu(display("eBay's key isn't one for ECDSA over P-256 with SHA-1"))]
    Unusable,
}

/// `None`: eBay has no key of this id.
type Known = Option<Arc<VerifyingKey>>;

/// Keys by their ids.
pub struct Keys {
    known: Mutex<HashMap<String, (Known, Instant)>>,
    /// One look-up at a time: whoever waits for it finds its answer.
    ebay: AsyncMutex<Asking>,
    look_ups: DefaultDirectRateLimiter,
    metrics: Arc<Metrics>,
}

struct Asking {
    keys: ebay::PublicKeys,
    application: watch::Receiver<Mounted<Application>>,
}

impl Keys {
    /// None yet.
    pub fn new(
        http: Client,
        endpoints: Endpoints,
        mut application: watch::Receiver<Mounted<Application>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        application.mark_changed();
        let keys = ebay::PublicKeys::new(http, endpoints, Credentials::default());
        let quota = Quota::with_period(BETWEEN_LOOK_UPS).expect("a constant above zero");
        let at_once = LOOK_UPS_AT_ONCE.try_into().expect("a constant above zero");
        Self {
            known: Mutex::default(),
            ebay: AsyncMutex::new(Asking { keys, application }),
            look_ups: RateLimiter::direct(quota.allow_burst(at_once)),
            metrics,
        }
    }

    /// The key of this id; `None` if eBay has none.
    pub async fn get(&self, id: &str) -> Result<Known, KeyError> {
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let mut asking = self.ebay.lock().await;
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let found = match self.look_ups.check() {
            Ok(()) => timeout(TIME, asking.look_up(id)).await.unwrap_or(Err(KeyError::Late)),
            Err(_) => LimitedSnafu.fail(),
        };
        self.metrics.looked_up(match &found {
            Ok(Some(_)) => "found",
            Ok(None) => "unknown",
            Err(KeyError::Limited) => "limited",
            Err(_) => "failed",
        });
        let found = found?;
        self.note(id, found.clone());
        Ok(found)
    }

    fn known(&self, id: &str) -> Option<Known> {
        let (known, until) = self.lock().get(id)?.clone();
        (Instant::now() < until).then_some(known)
    }

    fn note(&self, id: &str, found: Known) {
        let now = Instant::now();
        let kept = if found.is_some() { KEPT } else { UNKNOWN_KEPT };
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (key, until)| key.is_some() && now < *until);
        }
        known.insert(id.to_owned(), (found, now + kept));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Known, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    async fn look_up(&mut self, id: &str) -> Result<Known, KeyError> {
        if self.application.has_changed().unwrap_or_default() {
            let application = self.application.borrow_and_update().clone();
            let application = application.map_err(|reason| {
                self.application.mark_changed();
                KeyError::Application { reason }
            })?;
            self.keys.set_credentials(application.credentials.clone());
        }
        let Some(key) = self.keys.get(id).await.context(EbaySnafu)? else { return Ok(None) };
        let key = VerifyingKey::parse(&key).ok_or(KeyError::Unusable)?;
        Ok(Some(Arc::new(key)))
    }
}
