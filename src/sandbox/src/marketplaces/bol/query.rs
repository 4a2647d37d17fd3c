//! What the listings may be asked for, and what is wrong with a question.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp, civil::Date};

use super::render::amsterdam;
use crate::order::{Order, State};

/// Handled orders are listed this long.
const HANDLED: SignedDuration = SignedDuration::from_hours(48);
/// Shipments are listed for three months.
const SHIPPED: SignedDuration = SignedDuration::from_hours(24 * 92);
const LONGEST_INTERVAL: i64 = 60;

pub(super) type Parameters = HashMap<String, String>;
/// The parameter, and what is wrong with it.
pub(super) type Violation = (&'static str, String);

pub(super) struct List {
    pub(super) page: usize,
    status: String,
    method: String,
    minutes: Option<i64>,
    day: Option<Date>,
}

impl List {
    pub(super) fn read(query: &Parameters) -> Result<Self, Violation> {
        Ok(Self {
            page: page(query)?,
            status: word(query, "status", "OPEN", &["OPEN", "SHIPPED", "ALL"])?,
            method: word(query, "fulfilment-method", "FBR", &["FBR", "FBB", "ALL"])?,
            minutes: given(query, "change-interval-minute", |text| {
                text.parse().ok().filter(|minutes| (1..=LONGEST_INTERVAL).contains(minutes))
            })?,
            day: given(query, "latest-change-date", |text| text.parse().ok())?,
        })
    }

    /// All orders are the retailer's own to fulfil.
    pub(super) fn wants(&self, order: &Order, now: Timestamp) -> bool {
        let open = matches!(order.state, State::New | State::PartiallyShipped);
        let status = match self.status.as_str() {
            "OPEN" => open,
            "SHIPPED" => !open && order.state != State::Cancelled,
            _ => true,
        };
        let age = now.duration_since(order.updated);
        let listed = open || age < HANDLED;
        let recent = self.minutes.is_none_or(|minutes| age <= SignedDuration::from_mins(minutes));
        let on_day = self.day.is_none_or(|day| day.to_string() == amsterdam(order.updated)[..10]);
        self.method != "FBB" && status && listed && recent && on_day
    }
}

pub(super) struct Shipments {
    pub(super) page: usize,
    method: String,
    order: Option<String>,
}

impl Shipments {
    pub(super) fn read(query: &Parameters) -> Result<Self, Violation> {
        let order = query.get("order-id").cloned();
        if order.is_some() && query.contains_key("fulfilment-method") {
            return Err(("order-id", "Only valid without fulfilment-method".to_owned()));
        }
        Ok(Self {
            page: page(query)?,
            method: word(query, "fulfilment-method", "FBR", &["FBR", "FBB"])?,
            order,
        })
    }

    pub(super) fn wants(&self, order: &Order, now: Timestamp) -> bool {
        let recent = order.shipped.is_some_and(|at| now.duration_since(at) < SHIPPED);
        recent && self.method == "FBR" && self.order.as_ref().is_none_or(|id| *id == order.number)
    }
}

fn page(query: &Parameters) -> Result<usize, Violation> {
    let page = given(query, "page", |text| text.parse().ok().filter(|page| *page >= 1))?;
    Ok(page.unwrap_or(1))
}

/// A parameter that may be missing, but not unreadable.
fn given<T>(
    query: &Parameters,
    name: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Violation> {
    let Some(text) = query.get(name) else { return Ok(None) };
    read(text).map(Some).ok_or_else(|| (name, "Request contains an invalid value".to_owned()))
}

fn word(query: &Parameters, name: &'static str, default: &str, words: &[&str]) -> Result<String, Violation> {
    let word = query.get(name).map_or(default, String::as_str);
    let allowed = words.contains(&word).then(|| word.to_owned());
    allowed.ok_or_else(|| {
        (name, format!("Request contains invalid value(s), allowed values: {}.", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Marketplace, order::generate};

    fn query(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_question_outside_the_documented_values_names_its_parameter() {
        for (name, value) in [
            ("page", "0"),
            ("page", "first"),
            ("status", "DONE"),
            ("fulfilment-method", "FBX"),
            ("change-interval-minute", "61"),
            ("change-interval-minute", "0"),
            ("latest-change-date", "yesterday"),
        ] {
            let violation = List::read(&query(&[(name, value)])).err().expect("refused");
            assert_eq!(violation.0, name, "{value}");
        }
        assert!(List::read(&query(&[("page", "1"), ("change-interval-minute", "60")])).is_ok());
        assert!(Shipments::read(&query(&[("order-id", "A1"), ("fulfilment-method", "FBR")])).is_err());
        assert!(Shipments::read(&query(&[("fulfilment-method", "ALL")])).is_err());
    }

    #[test]
    fn handled_orders_are_listed_for_48_hours_and_open_ones_for_good() {
        let placed: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let all = List::read(&query(&[("status", "ALL")])).expect("a listing");
        let mut order = generate(Marketplace::Bol, 1, 1, placed);
        let after = |hours| placed + SignedDuration::from_hours(hours);
        assert!(all.wants(&order, after(1000)));
        order.decide(State::Shipped, placed);
        assert!(all.wants(&order, after(47)) && !all.wants(&order, after(48)));
        let shipments = Shipments::read(&query(&[])).expect("a listing");
        assert!(shipments.wants(&order, after(1000)) && !shipments.wants(&order, after(24 * 93)));
    }

    #[test]
    fn days_are_amsterdams() {
        let late: Timestamp = "2026-07-10T22:30:00Z".parse().expect("a time");
        let order = generate(Marketplace::Bol, 1, 1, late);
        let on = |day| List::read(&query(&[("latest-change-date", day)])).expect("a day").wants(&order, late);
        assert!(on("2026-07-11") && !on("2026-07-10"));
    }
}
