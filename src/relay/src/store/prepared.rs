//! An order on its way into the database: digests taken, PII serialised, nothing sealed yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use marketrelay_keyring::{Digest, DigestKey};
use marketrelay_marketplace::{Fulfilment, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus};
use serde::Serialize;
use zeroize::Zeroizing;

use super::remainder::Source;

/// The typed columns of an order and its PII as JSON.
pub struct Prepared {
    pub(super) number_digest: Digest,
    pub(super) buyer_digest: Option<Digest>,
    /// Whoever else is in the order, by what an erasure could name them.
    pub(super) other_buyer_digests: Vec<Digest>,
    pub(super) content_digest: Digest,
    pub(super) pii: Zeroizing<Vec<u8>>,
    pub(super) columns: Columns,
}

/// What a row says without naming anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Columns {
    pub(super) marketplace: Marketplace,
    pub(super) placed_at: Timestamp,
    /// Not part of the content: a marketplace may touch an order without changing it.
    #[serde(skip)]
    pub(super) updated_at: Timestamp,
    pub(super) first_shipped_at: Option<Timestamp>,
    pub(super) status: OrderStatus,
    pub(super) marketplace_status: String,
    pub(super) fulfilment: Fulfilment,
    pub(super) sales_channel: Option<String>,
    pub(super) country: Option<String>,
    pub(super) total: Option<Money>,
    pub(super) tax: Option<Money>,
    pub(super) lines: Vec<OrderLine>,
}

impl Columns {
    /// What a remainder is made of.
    pub(super) fn source(&self) -> Source<'_> {
        Source {
            marketplace: self.marketplace,
            country: self.country.as_deref(),
            placed_at: self.placed_at,
            status: self.status,
            total: self.total.as_ref(),
            tax: self.tax.as_ref(),
            lines: &self.lines,
        }
    }
}

impl Prepared {
    /// Takes the digests under the customer's key.
    pub fn new(order: Order, key: &DigestKey) -> Self {
        let Order {
            marketplace,
            pii,
            placed_at,
            updated_at,
            first_shipped_at,
            status,
            marketplace_status,
            fulfilment,
            sales_channel,
            country,
            total,
            tax,
            lines,
        } = order;
        let columns = Columns {
            marketplace,
            placed_at,
            updated_at,
            first_shipped_at,
            status,
            marketplace_status,
            fulfilment,
            sales_channel,
            country,
            total,
            tax,
            lines,
        };
        let person = pii.expose();
        let buyer = [&person.buyer.email, &person.buyer.username].into_iter().find(|text| !text.is_empty());
        let buyer_digest = buyer.map(|buyer| key.buyer(marketplace.as_str(), buyer));
        let people = people(person).map(|text| key.buyer(marketplace.as_str(), text));
        let others: BTreeSet<_> = people.filter(|digest| Some(*digest) != buyer_digest).collect();
        let json = Zeroizing::new(json(person));
        let mut content = Zeroizing::new(self::json(&columns));
        content.extend_from_slice(&json);
        Self {
            number_digest: key.order(marketplace.as_str(), &person.number),
            buyer_digest,
            other_buyer_digests: others.into_iter().collect(),
            content_digest: key.content(&content),
            pii: json,
            columns,
        }
    }
}

/// Whatever an erasure could name somebody by.
pub(super) fn people(pii: &OrderPii) -> impl Iterator<Item = &str> {
    let addresses = [&pii.ship_to, &pii.bill_to].into_iter().flatten();
    let texts =
        [&pii.buyer.email, &pii.buyer.username].into_iter().chain(addresses.map(|address| &address.email));
    texts.map(String::as_str).filter(|text| !text.is_empty())
}

/// Strings, numbers and times always have a JSON form.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
