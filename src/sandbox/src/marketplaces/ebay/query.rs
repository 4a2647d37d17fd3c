//! What a search may ask for, and the documented errors of one that may not be.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::render::status;
use crate::order::Order;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
const MOST_IDS: usize = 50;
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 731);
/// Without a filter.
const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(24 * 90);

pub(super) type Parameters = HashMap<String, String>;
/// `errorId` and its description.
pub(super) type Refusal = (u32, &'static str);

#[derive(Debug)]
pub(super) struct Search {
    pub(super) limit: usize,
    pub(super) offset: usize,
    filter: Filter,
    ids: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Filter {
    created: Option<(Timestamp, Timestamp)>,
    modified: Option<(Timestamp, Timestamp)>,
    statuses: Option<Vec<String>>,
}

impl Search {
    pub(super) fn read(query: &Parameters, now: Timestamp) -> Result<Self, Refusal> {
        check_field_groups(query)?;
        let number = |name: &str, default| query.get(name).map_or(Ok(default), |text| text.parse::<usize>());
        let ids = query.get("orderIds").map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>());
        if ids.as_ref().is_some_and(|ids| ids.len() > MOST_IDS) {
            return Err((30900, "Exceeded maximum number of order IDs (the current limit is 50)"));
        }
        let limit = number("limit", DEFAULT_LIMIT).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let filter = query.get("filter").map_or("", String::as_str);
        Ok(Self {
            limit: limit.ok_or((31100, "Invalid limit"))?,
            offset: number("offset", 0).map_err(|_| (31000, "Invalid offset"))?,
            filter: Filter::read(filter, now)?,
            ids,
        })
    }

    pub(super) fn wants(&self, order: &Order) -> bool {
        self.ids.as_ref().map_or_else(|| self.filter.wants(order), |ids| ids.contains(&order.number))
    }
}

impl Filter {
    fn read(text: &str, now: Timestamp) -> Result<Self, Refusal> {
        let mut filter = Self::default();
        for one in text.split(',').filter(|one| !one.is_empty()) {
            let (name, value) = one.split_once(':').ok_or((30700, "Invalid filter name"))?;
            match name {
                "creationdate" => filter.created = Some(range(value, now)?),
                "lastmodifieddate" => filter.modified = Some(range(value, now)?),
                "orderfulfillmentstatus" => filter.statuses = Some(statuses(value)?),
                _ => return Err((30700, "Invalid filter name")),
            }
        }
        if filter.created.is_none() && filter.modified.is_none() {
            filter.created = Some((now - DEFAULT_RANGE, now));
        }
        Ok(filter)
    }

    /// With both dates only the creation date is used.
    fn wants(&self, order: &Order) -> bool {
        let in_range = match (self.created, self.modified) {
            (Some((from, to)), _) => (from..=to).contains(&order.placed),
            (None, Some((from, to))) => (from..=to).contains(&order.updated),
            (None, None) => true,
        };
        in_range && self.statuses.as_ref().is_none_or(|words| words.iter().any(|word| word == status(order)))
    }
}

fn range(value: &str, now: Timestamp) -> Result<(Timestamp, Timestamp), Refusal> {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let (from, to) = inner.and_then(|inner| inner.split_once("..")).ok_or((30800, "Invalid filter value"))?;
    if from.is_empty() {
        return Err((30820, "Start date is missing"));
    }
    let time = |text: &str| text.parse::<Timestamp>().map_err(|_| (30810, "Invalid date format"));
    let (from, to) = (time(from)?, if to.is_empty() { now } else { time(to)? });
    if from > now || to > now {
        return Err((30850, "Start and end dates can't be in the future"));
    }
    if from > to {
        return Err((30840, "Start date should be before end date"));
    }
    if to.duration_since(from) > LONGEST {
        return Err((30830, "Time range between start date and end date must be within '2' years."));
    }
    Ok((from, to))
}

fn statuses(value: &str) -> Result<Vec<String>, Refusal> {
    match value {
        "{NOT_STARTED|IN_PROGRESS}" => Ok(vec!["NOT_STARTED".to_owned(), "IN_PROGRESS".to_owned()]),
        "{FULFILLED|IN_PROGRESS}" => Ok(vec!["FULFILLED".to_owned(), "IN_PROGRESS".to_owned()]),
        _ => Err((30800, "Invalid filter value")),
    }
}

pub(super) fn check_field_groups(query: &Parameters) -> Result<(), Refusal> {
    match query.get("fieldGroups").map(String::as_str) {
        None | Some("TAX_BREAKDOWN") => Ok(()),
        Some(_) => Err((32800, "Invalid field group")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Marketplace, order::generate};

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().expect("a time")
    }

    fn read(name: &str, value: &str) -> Result<Search, Refusal> {
        Search::read(&Parameters::from([(name.to_owned(), value.to_owned())]), now())
    }

    #[test]
    fn with_both_dates_only_the_creation_date_counts() {
        let filter = "lastmodifieddate:[2026-01-01T00:00:00.000Z..],creationdate:[2026-02-01T00:00:00.000Z..2026-03-01T00:00:00.000Z]";
        let search = read("filter", filter).expect("a filter");
        let placed = |text: &str| generate(Marketplace::Ebay, 1, 1, text.parse().expect("a time"));
        assert!(search.wants(&placed("2026-02-15T00:00:00Z")));
        assert!(!search.wants(&placed("2026-01-15T00:00:00Z")), "modified in its range, but created before");
    }

    #[test]
    fn a_search_outside_the_documented_values_has_its_documented_error() {
        let ids = ["1"; 51].join(",");
        for (name, value, id) in [
            ("limit", "201", 31100),
            ("limit", "0", 31100),
            ("limit", "many", 31100),
            ("offset", "-1", 31000),
            ("fieldGroups", "EVERYTHING", 32800),
            ("orderIds", &ids, 30900),
            ("filter", "price:[1..2]", 30700),
            ("filter", "lastmodifieddate", 30700),
            ("filter", "lastmodifieddate:2026-01-01", 30800),
            ("filter", "orderfulfillmentstatus:{FULFILLED}", 30800),
            ("filter", "lastmodifieddate:[yesterday..]", 30810),
            ("filter", "lastmodifieddate:[..2026-01-01T00:00:00Z]", 30820),
            ("filter", "lastmodifieddate:[2023-01-01T00:00:00Z..]", 30830),
            ("filter", "lastmodifieddate:[2026-02-01T00:00:00Z..2026-01-01T00:00:00Z]", 30840),
            ("filter", "lastmodifieddate:[2026-02-01T00:00:00Z..2026-06-02T00:00:00Z]", 30850),
        ] {
            assert_eq!(read(name, value).expect_err("refused").0, id, "{name}={value}");
        }
        assert!(read("limit", "200").is_ok() && read("limit", "1").is_ok());
    }
}
