//! Durations as people write them: `90d`, `36h`, `5m`, `10s`.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use snafu::Snafu;

use crate::rules;

/// What the API server and [`Duration::from_str`] accept.
pub const PATTERN: &str = "^[1-9][0-9]{0,5}[dhms]$";

/// More than any duration needs, so that a longer text gets the sentence that says how to write one.
const MAX_LENGTH: u32 = 32;

const DAY: i64 = 86_400;

/// A whole number of days, hours, minutes or seconds, such as `90d`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    text: String,
    seconds: i64,
}

/// The text is not a duration.
#[derive(Debug, Snafu)]
#[snafu(display(
    "{text:?} is not a duration: write a whole number from 1 to 999999 and d, h, m or s, such as 90d or 36h"
))]
pub struct InvalidDuration {
    text: String,
}

impl Duration {
    /// Whole days.
    pub fn days(days: u16) -> Self {
        Self { text: format!("{days}d"), seconds: i64::from(days) * DAY }
    }

    /// Whole hours.
    pub fn hours(hours: u16) -> Self {
        Self { text: format!("{hours}h"), seconds: i64::from(hours) * 3_600 }
    }

    /// Whole minutes.
    pub fn minutes(minutes: u16) -> Self {
        Self { text: format!("{minutes}m"), seconds: i64::from(minutes) * 60 }
    }

    /// Its length in seconds.
    pub fn as_secs(&self) -> i64 {
        self.seconds
    }

    /// Its length.
    pub fn as_signed(&self) -> SignedDuration {
        SignedDuration::from_secs(self.seconds)
    }

    /// Shorter than a day: only where the operator allows it.
    pub fn is_short(&self) -> bool {
        self.seconds < DAY
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let unit = match unit {
                "d" => DAY,
                "h" => 3_600,
                "m" => 60,
                "s" => 1,
                _ => return None,
            };
            let digits = (1..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
            (digits && !number.starts_with('0')).then(|| number.parse::<i64>().ok())?.map(|n| n * unit)
        };
        match parsed() {
            Some(seconds) => Ok(Self { text: text.to_owned(), seconds }),
            None => InvalidDurationSnafu { text }.fail(),
        }
    }
}

impl TryFrom<String> for Duration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.text
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [rules::duration()],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_days_hours_minutes_and_seconds() {
        for (text, seconds) in [("90d", 90 * DAY), ("36h", 129_600), ("5m", 300), ("10s", 10)] {
            assert_eq!(text.parse::<Duration>().expect(text).as_secs(), seconds);
        }
        assert!("23h".parse::<Duration>().expect("hours").is_short());
        assert!(!Duration::days(1).is_short());
    }

    proptest! {
        #[test]
        fn any_text_reads_back_or_is_refused_with_an_example(text in "\\PC{0,9}") {
            match text.parse::<Duration>() {
                Ok(duration) => prop_assert_eq!(duration.to_string(), text),
                Err(error) => prop_assert!(error.to_string().contains("such as 90d")),
            }
        }

        #[test]
        fn what_the_schema_accepts_is_accepted(text in "[1-9][0-9]{0,5}[dhms]") {
            prop_assert!(text.parse::<Duration>().is_ok());
        }

        #[test]
        fn numbers_that_the_schema_refuses_are_refused(text in "(0[0-9]{0,5}|[1-9][0-9]{6,9}|)[dhms]") {
            prop_assert!(text.parse::<Duration>().is_err());
        }
    }
}
