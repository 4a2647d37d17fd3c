//! What a search may ask for, and what is wrong with one that may not be.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::render::status;
use crate::order::Order;

pub(super) const SITE: &str = "A1PA6795UKMFR9";
const INCLUDED: [&str; 11] = [
    "BUYER",
    "RECIPIENT",
    "PROCEEDS",
    "EXPENSE",
    "PROMOTION",
    "CANCELLATION",
    "FULFILLMENT",
    "PACKAGES",
    "TAX",
    "PAYMENT",
    "FULFILLMENT_ORDERS",
];
const STATUSES: [&str; 7] = [
    "PENDING_AVAILABILITY",
    "PENDING",
    "UNSHIPPED",
    "PARTIALLY_SHIPPED",
    "SHIPPED",
    "CANCELLED",
    "UNFULFILLABLE",
];
const MOST_SITES: usize = 50;
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);

pub(super) type Parameters = HashMap<String, String>;

/// An order's place in the list that a search goes through.
pub(super) type Place = (Timestamp, String);

pub(super) struct Search {
    pub(super) by_creation: bool,
    from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) size: usize,
    pub(super) included: Vec<String>,
    /// The last order of the page before.
    pub(super) after: Option<Place>,
    statuses: Vec<String>,
    by_amazon_only: bool,
    sites: Vec<String>,
}

impl Search {
    pub(super) fn read(query: &Parameters, now: Timestamp) -> Result<Self, String> {
        let (by_creation, from, to) = window(query, now)?;
        let size = query.get("maxResultsPerPage").map_or(Ok(100), |text| text.parse());
        let size = size.ok().filter(|size| (1..=100).contains(size));
        let sites = list(query, "marketplaceIds", None)?;
        if sites.len() > MOST_SITES {
            return Err(format!("marketplaceIds may have {MOST_SITES} entries"));
        }
        let by = list(query, "fulfilledBy", Some(&["MERCHANT", "AMAZON"]))?;
        let after = query.get("paginationToken").map(|token| read_token(token, now));
        Ok(Self {
            by_creation,
            from,
            to,
            size: size.ok_or("maxResultsPerPage must be between 1 and 100")?,
            included: included(query)?,
            after: after.map(|place| place.ok_or("paginationToken is invalid or expired")).transpose()?,
            statuses: list(query, "fulfillmentStatuses", Some(&STATUSES))?,
            by_amazon_only: by == ["AMAZON"],
            sites,
        })
    }

    pub(super) fn wants(&self, order: &Order) -> bool {
        let (at, _) = place(self, order);
        let wanted = self.statuses.is_empty() || self.statuses.iter().any(|word| word == status(order));
        (self.from..=self.to).contains(&at) && wanted && !self.by_amazon_only
    }

    /// The seller sells on every site that is asked for.
    pub(super) fn site(&self, order: &Order) -> &str {
        let any = order.number.bytes().map(usize::from).sum::<usize>().checked_rem(self.sites.len());
        any.map_or(SITE, |n| &self.sites[n])
    }
}

pub(super) fn place(search: &Search, order: &Order) -> Place {
    (if search.by_creation { order.placed } else { order.updated }, order.number.clone())
}

/// Stands for a place in the list, not for a count: an order that leaves the list moves no other.
pub(super) fn token(search: &Search, last: &Order, now: Timestamp) -> String {
    let (at, number) = place(search, last);
    BASE64_URL_SAFE_NO_PAD.encode(format!("{} {} {number}", now.as_second(), at.as_nanosecond()))
}

fn read_token(token: &str, now: Timestamp) -> Option<Place> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (issued, place) = text.split_once(' ')?;
    let issued = Timestamp::from_second(issued.parse().ok()?).ok()?;
    let (at, number) = place.split_once(' ')?;
    let place = (Timestamp::from_nanosecond(at.parse().ok()?).ok()?, number.to_owned());
    (now.duration_since(issued) < TOKEN_LIFE).then_some(place)
}

pub(super) fn included(query: &Parameters) -> Result<Vec<String>, String> {
    list(query, "includedData", Some(&INCLUDED))
}

/// A list separated by commas, of the given words only.
fn list(query: &Parameters, name: &str, words: Option<&[&str]>) -> Result<Vec<String>, String> {
    let text = query.get(name).map(String::as_str).unwrap_or_default();
    let list: Vec<_> = text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    match words {
        Some(words) if list.iter().any(|word| !words.contains(&word.as_str())) => {
            Err(format!("{name} has an unknown value"))
        }
        _ => Ok(list),
    }
}

/// The window of a search, or what is wrong with the request.
fn window(query: &Parameters, now: Timestamp) -> Result<(bool, Timestamp, Timestamp), String> {
    let time = |name: &str| {
        let time = query.get(name).map(|text| text.parse::<Timestamp>()).transpose();
        time.map_err(|_| format!("{name} isn't an ISO 8601 date"))
    };
    let (created, updated) = (time("createdAfter")?, time("lastUpdatedAfter")?);
    let (created_before, updated_before) = (time("createdBefore")?, time("lastUpdatedBefore")?);
    let (by_creation, from, before) = match (created, updated, created_before, updated_before) {
        (Some(from), None, before, None) => (true, from, before),
        (None, Some(from), None, before) => (false, from, before),
        (None, None, ..) | (Some(_), Some(_), ..) => {
            return Err("Exactly one of createdAfter and lastUpdatedAfter is required".to_owned());
        }
        _ => return Err("Dates of creation and of update can't be mixed".to_owned()),
    };
    let latest = now - SignedDuration::from_mins(2);
    let to = before.unwrap_or(latest);
    if to > latest {
        return Err("The *Before date must be at least two minutes ago".to_owned());
    }
    if to < from {
        return Err("The *Before date must not be before the *After date".to_owned());
    }
    Ok((by_creation, from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "2026-01-01T00:00:00Z";

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn refused(pairs: &[(&str, &str)]) -> bool {
        let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Search::read(&query, now()).is_err()
    }

    #[test]
    fn a_search_names_exactly_one_window_that_ended_two_minutes_ago() {
        for bad in [
            &[][..],
            &[("createdAfter", DAY), ("lastUpdatedAfter", DAY)],
            &[("createdAfter", DAY), ("lastUpdatedBefore", DAY)],
            &[("lastUpdatedAfter", DAY), ("createdBefore", DAY)],
            &[("lastUpdatedAfter", "yesterday")],
            &[("lastUpdatedAfter", DAY), ("lastUpdatedBefore", "2026-01-01T11:58:01Z")],
            &[("lastUpdatedAfter", DAY), ("lastUpdatedBefore", "2025-12-31T00:00:00Z")],
            &[("lastUpdatedAfter", "2026-01-01T11:59:00Z")],
        ] {
            assert!(refused(bad), "{bad:?}");
        }
        assert!(!refused(&[("lastUpdatedAfter", DAY)]));
        assert!(!refused(&[("createdAfter", DAY), ("createdBefore", "2026-01-01T11:58:00Z")]));
    }

    #[test]
    fn a_search_outside_the_documented_values_is_refused() {
        let sites = ["A1PA6795UKMFR9"; 51].join(",");
        for (name, value) in [
            ("maxResultsPerPage", "0"),
            ("maxResultsPerPage", "101"),
            ("maxResultsPerPage", "many"),
            ("marketplaceIds", sites.as_str()),
            ("includedData", "BUYER,SECRETS"),
            ("fulfillmentStatuses", "LOST"),
            ("fulfilledBy", "ME"),
            ("paginationToken", "page-100"),
        ] {
            assert!(refused(&[("lastUpdatedAfter", DAY), (name, value)]), "{name}={value}");
        }
        for (name, value) in
            [("maxResultsPerPage", "1"), ("maxResultsPerPage", "100"), ("marketplaceIds", &sites[..749])]
        {
            assert!(!refused(&[("lastUpdatedAfter", DAY), (name, value)]), "{name}={value}");
        }
    }

    #[test]
    fn a_pagination_token_is_good_for_24_hours() {
        let token = BASE64_URL_SAFE_NO_PAD.encode(format!("{} 5 302-1", now().as_second()));
        assert_eq!(read_token(&token, now()).map(|(_, number)| number).as_deref(), Some("302-1"));
        assert!(read_token(&token, now() + TOKEN_LIFE).is_none());
    }
}
