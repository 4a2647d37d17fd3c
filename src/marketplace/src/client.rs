//! What the relay sees of every marketplace's client.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use snafu::{OptionExt, Snafu};
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Order;

/// What a marketplace's application and seller are known by; the entries of the Secret in `credentialsSecretRef`.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Credentials {
    /// `clientId`.
    pub client_id: String,
    /// `clientSecret`.
    pub client_secret: String,
    /// `refreshToken`: Amazon and eBay.
    pub refresh_token: Option<String>,
}

/// The entries that a marketplace's credentials need.
pub const CREDENTIAL_ENTRIES: [&str; 3] = ["clientId", "clientSecret", "refreshToken"];

/// An entry of the credentials Secret is missing or empty.
#[derive(Debug, Snafu)]
#[snafu(display("the credentials Secret has no entry {entry:?}, or it is empty"))]
pub struct MissingCredential {
    entry: &'static str,
}

impl Credentials {
    /// From the Secret's entries; `needs_refresh_token` for Amazon and eBay. Surrounding white space is dropped.
    pub fn from_entries(
        entries: &BTreeMap<String, String>,
        needs_refresh_token: bool,
    ) -> Result<Self, MissingCredential> {
        let [id, secret, token] = CREDENTIAL_ENTRIES;
        let entry = |entry: &'static str| {
            let value = entries.get(entry).map(|v| v.trim()).filter(|v| !v.is_empty());
            value.map(str::to_owned).context(MissingCredentialSnafu { entry })
        };
        let refresh_token = needs_refresh_token.then(|| entry(token)).transpose()?;
        Ok(Self { client_id: entry(id)?, client_secret: entry(secret)?, refresh_token })
    }
}

/// Where a marketplace's API answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Base of the API, such as `https://api.bol.com`.
    pub api: Url,
    /// The token endpoint's full URL, such as `https://login.bol.com/token`.
    pub token: Url,
}

/// How far collecting has come: opaque to the relay, stored as JSON in the same transaction as the page's orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub serde_json::Value);

/// One step of collecting.
#[derive(Clone, Debug)]
pub struct Page {
    /// Orders that are new or changed, oldest change first where the marketplace allows.
    pub orders: Vec<Order>,
    /// To be stored in the same transaction, and passed to the next call.
    pub cursor: Cursor,
    /// The window's end isn't reached: call again at once.
    pub more: bool,
    /// The time up to which the marketplace has told all shipments; it moves once a window is complete.
    pub known_until: Option<Timestamp>,
}

/// Why a step failed. Nothing of the marketplace's answer that could name a person is in it.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum CollectError {
    /// Wrong, revoked or expired credentials; waits for the Secret to change.
    #[snafu(display(
        "the marketplace ({call}) refused the credentials with HTTP {status}{code}: check the Secret in credentialsSecretRef"
    ))]
    Unauthorized {
        /// Which call.
        call: &'static str,
        /// HTTP status.
        status: u16,
        /// The marketplace's error code, in brackets, or empty.
        code: String,
    },
    /// The rate limit.
    #[snafu(display("{call} is throttled by the marketplace"))]
    Throttled {
        /// Which call.
        call: &'static str,
        /// When to try again, if the marketplace says.
        retry_after: Option<Duration>,
    },
    /// 5xx, no connection, time-out, an answer cut short.
    #[snafu(display("the marketplace ({call}) is unavailable: {detail}"))]
    Unavailable {
        /// Which call.
        call: &'static str,
        /// What happened.
        detail: String,
        /// When to try again, if the marketplace says.
        retry_after: Option<Duration>,
    },
    /// An answer that isn't in the documented form, or a request that the marketplace refuses as wrong.
    #[snafu(display("{call} gave an answer that doesn't follow the API's documentation: {detail}"))]
    Protocol {
        /// Which call.
        call: &'static str,
        /// What was wrong, without values.
        detail: String,
    },
    /// A page repeats, is missing or the set changed under the paging: the window starts again, nothing is skipped.
    #[snafu(display("{call} didn't list a window without a gap: {detail}"))]
    Gap {
        /// Which call.
        call: &'static str,
        /// What was wrong, without values.
        detail: String,
    },
}

impl CollectError {
    /// A bounded name for metrics and the condition's reason.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "CredentialsRejected",
            Self::Throttled { .. } => "Throttled",
            Self::Unavailable { .. } => "MarketplaceUnavailable",
            Self::Protocol { .. } => "UnexpectedAnswer",
            Self::Gap { .. } => "ListingGap",
        }
    }

    /// When the marketplace asks to be called again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A future that a client returns.
pub type CollectFuture<'a> = Pin<Box<dyn Future<Output = Result<Page, CollectError>> + Send + 'a>>;

/// One marketplace's client. It holds tokens and rate limits in memory; everything that must survive is in the cursor.
pub trait Collector: Send {
    /// The cursor of a connection that collects for the first time: orders changed since `since`.
    fn start(&self, since: Timestamp) -> Cursor;

    /// Fetches the page at `cursor`. A failed call may be repeated with the same cursor.
    fn page<'a>(&'a mut self, cursor: &'a Cursor, now: Timestamp) -> CollectFuture<'a>;

    /// Takes new credentials; tokens of the old ones are forgotten.
    fn set_credentials(&mut self, credentials: Credentials);
}
