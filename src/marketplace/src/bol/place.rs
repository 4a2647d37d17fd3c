//! Places in Bol.com's listings, and their order inside a window.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::window::earlier;

/// Windows overlap by this, since a change may be listed late.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_mins(5);
/// `change-interval-minute` goes no further back.
const LONGEST_INTERVAL: i64 = 60;
/// Orders that were handled longer ago than 48 hours may be listed no more; the rest is for clocks that differ.
const HANDLED_LISTED: SignedDuration = SignedDuration::from_hours(47);
/// The listing of shipments knows no `ALL`.
const METHODS: [&str; 2] = ["FBR", "FBB"];

/// What is being listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Listing {
    /// Orders that changed in the last minutes.
    Recent,
    /// Orders that last changed on a day.
    Day(Date),
    /// Shipments by `FBR` or `FBB`, for the orders that were handled too long ago to be listed.
    Shipments(String),
}

impl Listing {
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::Recent | Self::Day(_) => "getOrders",
            Self::Shipments(_) => "getShipments",
        }
    }
}

/// The place inside a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Position {
    /// When the window began: it is complete up to then.
    pub(crate) began: Timestamp,
    pub(crate) listing: Listing,
    /// How often the listing was read to its end.
    pub(crate) pass: u32,
    pub(crate) page: u32,
    /// This pass has shown an order of the window for the first time.
    pub(crate) fresh: bool,
    /// A page of this pass was full.
    pub(crate) full: bool,
}

impl Position {
    /// The beginning of the window after `watermark`.
    pub(crate) fn begin(watermark: Timestamp, now: Timestamp) -> Self {
        let recent = minutes(watermark, now) <= LONGEST_INTERVAL;
        let day = || Listing::Day(day_of(earlier(watermark, OVERLAP)));
        Self::first(now, if recent { Listing::Recent } else { day() })
    }

    fn first(began: Timestamp, listing: Listing) -> Self {
        Self { began, listing, pass: 0, page: 1, fresh: false, full: false }
    }

    /// The pass from its first page on.
    pub(crate) fn again(&self) -> Self {
        Self { page: 1, fresh: false, full: false, ..self.clone() }
    }

    /// Whether the listing can still be asked for.
    pub(crate) fn is_in_reach(&self, watermark: Timestamp, now: Timestamp) -> bool {
        self.listing != Listing::Recent || minutes(watermark, now) <= LONGEST_INTERVAL
    }

    /// The name of a page of this pass.
    pub(crate) fn name(&self, page: u32) -> String {
        format!("{:?} {} {page}", self.listing, self.pass)
    }

    /// The place after a page, which may be the listing's last; `None` if the window is complete.
    pub(crate) fn after(&self, last: bool, watermark: Timestamp) -> Option<Self> {
        if !last {
            return Some(Self { page: self.page.saturating_add(1), ..self.clone() });
        }
        match &self.listing {
            // Shipments only ever move down.
            Listing::Recent | Listing::Day(_) if self.fresh && (self.full || self.page > 2) => {
                Some(Self { pass: self.pass.saturating_add(1), ..self.again() })
            }
            Listing::Recent => None,
            Listing::Day(day) => self.after_day(*day, watermark),
            Listing::Shipments(method) => {
                let next = METHODS.iter().skip_while(|one| *one != method).nth(1)?;
                Some(Self::first(self.began, Listing::Shipments((*next).to_owned())))
            }
        }
    }

    fn after_day(&self, day: Date, watermark: Timestamp) -> Option<Self> {
        let tomorrow = day.tomorrow().ok().filter(|day| *day <= day_of(self.began));
        let unlisted = earlier(self.began, HANDLED_LISTED) > watermark;
        let shipments = || unlisted.then(|| Listing::Shipments(METHODS[0].to_owned()));
        tomorrow.map(Listing::Day).or_else(shipments).map(|listing| Self::first(self.began, listing))
    }
}

/// How many minutes back the listing must reach. The interval is to be a minute longer than the time between calls.
pub(crate) fn minutes(watermark: Timestamp, now: Timestamp) -> i64 {
    (now.duration_since(watermark) + OVERLAP).as_secs().div_euclid(60).max(0) + 1
}

/// Bol.com's days are those of Amsterdam.
fn day_of(at: Timestamp) -> Date {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The listings of a window whose every listing has one page of a few orders.
    fn listings(watermark: Timestamp, now: Timestamp) -> Vec<Listing> {
        let (mut position, mut listings) = (Position::begin(watermark, now), Vec::new());
        loop {
            listings.push(position.listing.clone());
            let Some(next) = position.after(true, watermark) else { return listings };
            position = next;
        }
    }

    fn days(from: &str, to: &str) -> Vec<String> {
        let listings = listings(at(from), at(to));
        let days = listings.iter().map_while(|one| match one {
            Listing::Day(day) => Some(day.to_string()),
            _ => None,
        });
        days.collect()
    }

    #[test]
    fn bols_days_are_amsterdams_in_winter_and_in_summer() {
        assert_eq!(days("2026-01-10T21:00:00Z", "2026-01-10T22:59:00Z"), ["2026-01-10"]);
        assert_eq!(days("2026-01-10T21:00:00Z", "2026-01-10T23:00:00Z"), ["2026-01-10", "2026-01-11"]);
        assert_eq!(days("2026-07-10T20:00:00Z", "2026-07-10T22:00:00Z"), ["2026-07-10", "2026-07-11"]);
    }

    #[test]
    fn no_day_is_left_out_when_the_clocks_change() {
        let spring = ["2026-03-28", "2026-03-29", "2026-03-30"];
        assert_eq!(days("2026-03-28T12:00:00Z", "2026-03-29T22:00:00Z"), spring);
        let autumn = ["2026-10-24", "2026-10-25"];
        assert_eq!(days("2026-10-24T12:00:00Z", "2026-10-25T22:59:59Z"), autumn);
    }

    #[test]
    fn the_interval_is_never_longer_than_an_hour() {
        let now = at("2026-01-10T12:00:00Z");
        for ago in 0..120 {
            let watermark = now - SignedDuration::from_mins(ago);
            let first = &listings(watermark, now)[0];
            assert_eq!(*first == Listing::Recent, minutes(watermark, now) <= 60, "{ago}");
            assert!(minutes(watermark, now) > ago + 5, "the window and its overlap are covered");
        }
        assert_eq!(minutes(now + SignedDuration::from_hours(1), now), 1, "a clock that was set back");
    }

    #[test]
    fn what_was_handled_over_48_hours_ago_is_found_by_its_shipment() {
        let now = at("2026-01-10T12:00:00Z");
        let shipments = |hours| {
            let listings = listings(now - SignedDuration::from_hours(hours), now);
            listings.into_iter().filter(|one| matches!(one, Listing::Shipments(_))).count()
        };
        assert_eq!((shipments(40), shipments(48), shipments(500)), (0, 2, 2));
    }

    #[test]
    fn a_listing_of_several_pages_is_read_until_a_pass_shows_nothing_new() {
        let now = at("2026-01-10T12:00:00Z");
        let first = Position { page: 3, fresh: true, full: true, ..Position::begin(now, now) };
        let second = first.after(true, now).expect("another pass");
        assert_eq!((second.pass, second.page, second.fresh, second.full), (1, 1, false, false));
        assert_eq!(Position { page: 3, full: true, ..second }.after(true, now), None);
        let short = Position { page: 2, fresh: true, ..Position::begin(now, now) };
        assert_eq!(short.after(true, now), None, "nothing can move up into a page that wasn't full");
    }
}
