use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use snafu::{OptionExt, Snafu};

use crate::ConnectionId;

/// The second at which an epoch key is destroyed; also the key's name, written `epoch.20260221T031700Z` as an entry
/// of the keyring Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestroyAt(i64);

/// The text is not the name of an epoch key.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not an epoch key's name such as epoch.20260221T031700Z"))]
pub struct InvalidDestroyAt {
    text: String,
}

const PREFIX: &str = "epoch.";
const FORMAT: &str = "%Y%m%dT%H%M%S";

impl DestroyAt {
    /// From whole seconds since the Unix epoch.
    pub fn from_second(second: i64) -> Self {
        Self(second)
    }

    /// Whole seconds since the Unix epoch.
    pub fn as_second(self) -> i64 {
        self.0
    }

    /// Whether the key must be gone at `now`.
    pub fn is_due(self, now: Timestamp) -> bool {
        now.as_second() >= self.0
    }

    /// `20260221T031700Z`.
    pub(crate) fn stamp(self) -> Result<String, fmt::Error> {
        let at = Timestamp::from_second(self.0).map_err(|_| fmt::Error)?;
        Ok(format!("{}Z", at.strftime(FORMAT)))
    }

    /// What [`stamp`](Self::stamp) gives. One key has one name: other spellings of the same second aren't names.
    pub(crate) fn from_stamp(text: &str) -> Option<Self> {
        let civil = jiff::civil::DateTime::strptime(FORMAT, text.strip_suffix('Z')?).ok()?;
        let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(at.timestamp().as_second())).filter(|at| at.stamp().is_ok_and(|stamp| stamp == text))
    }
}

impl fmt::Display for DestroyAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.stamp()?)
    }
}

impl FromStr for DestroyAt {
    type Err = InvalidDestroyAt;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX).and_then(Self::from_stamp).context(InvalidDestroyAtSnafu { text })
    }
}

/// The times at which a connection's epoch keys die: every `keyEpoch`, shifted by a hash of the connection id so that
/// not all tenants' keys die at the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    epoch: i64,
    offset: i64,
}

impl Grid {
    /// `epoch`: the policy's `keyEpoch`, at least one second.
    pub fn new(id: &ConnectionId, epoch: SignedDuration) -> Self {
        let epoch = epoch.as_secs().max(1);
        let hash = digest::digest(&digest::SHA256, id.as_str().as_bytes());
        let mut head = [0; 4];
        head.copy_from_slice(&hash.as_ref()[..4]);
        Self { epoch, offset: i64::from(u32::from_be_bytes(head)) % epoch }
    }

    /// The last point that isn't after `deadline`: a deadline is met early by less than one epoch, never late.
    pub fn floor(&self, deadline: Timestamp) -> DestroyAt {
        let second = deadline.as_second();
        DestroyAt(second - (second - self.offset).rem_euclid(self.epoch))
    }

    /// The length of an epoch in seconds.
    pub fn epoch_seconds(&self) -> i64 {
        self.epoch
    }

    /// Every point after `from`, up to the first one at or after `to`.
    pub fn points(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = DestroyAt> + use<> {
        let (epoch, first) = (self.epoch, self.floor(from).0 + self.epoch);
        let last = to.as_second() + epoch;
        (0..).map(move |i| first + i * epoch).take_while(move |at| *at < last).map(DestroyAt)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> ConnectionId {
        "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID")
    }

    #[test]
    fn another_spelling_of_a_name_is_none() {
        assert!("epoch.20260221T031700Z".parse::<DestroyAt>().is_ok());
        for text in [
            "epoch.2026221T031700Z",
            "epoch.20260221T03170Z",
            "epoch. 20260221T031700Z",
            "epoch.+20260221T031700Z",
        ] {
            assert!(text.parse::<DestroyAt>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_deadline_is_met_early_by_less_than_one_epoch(second in 0i64..4_000_000_000, epoch in 1i64..200_000) {
            let grid = Grid::new(&id(), SignedDuration::from_secs(epoch));
            let at = grid.floor(Timestamp::from_second(second).expect("in range"));
            prop_assert!(at.as_second() <= second && second - at.as_second() < epoch);
        }

        #[test]
        fn names_read_back(second in 0i64..4_000_000_000) {
            let at = DestroyAt::from_second(second);
            prop_assert_eq!(at.to_string().parse::<DestroyAt>().expect("its own name"), at);
        }

        #[test]
        fn names_of_others_are_refused(text in "\\PC*") {
            prop_assume!(!text.starts_with(PREFIX));
            prop_assert!(text.parse::<DestroyAt>().is_err());
        }

        #[test]
        fn every_deadline_in_range_has_its_point(second in 0i64..2_000_000, epoch in 1i64..90_000) {
            let grid = Grid::new(&id(), SignedDuration::from_secs(epoch));
            let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(2_000_000).expect("in range"));
            prop_assume!(second / epoch < 500 && 2_000_000 / epoch < 5_000);
            let point = grid.floor(Timestamp::from_second(second).expect("in range"));
            prop_assert_eq!(point.as_second() > 0, grid.points(from, to).any(|p| p == point));
        }
    }
}
