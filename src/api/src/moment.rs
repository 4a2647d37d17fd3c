//! Points in time as people write them: `2027-01-31`, or `2027-01-31T12:00:00+01:00`.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use snafu::Snafu;

use crate::rules;

/// What the API server accepts.
pub const PATTERN: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]))?$";

/// More than any time has, so that a longer text gets the sentence that says how to write one.
const MAX_LENGTH: u32 = 40;

/// A date, which means its first second in UTC, or a time with whole seconds and a UTC offset (RFC 3339).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    text: String,
    at: Timestamp,
}

/// The text is neither a date nor a time.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is neither a date such as 2027-01-31 nor a time such as 2027-01-31T12:00:00Z"))]
pub struct InvalidMoment {
    text: String,
}

impl Moment {
    /// When it is.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = if text.contains('T') {
            text.parse().ok()
        } else {
            let first = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
            text.parse().ok().and_then(first)
        };
        match parsed {
            Some(at) => Ok(Self { text: text.to_owned(), at }),
            None => InvalidMomentSnafu { text }.fail(),
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = InvalidMoment;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.text
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [rules::moment(), rules::day_exists()],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_date_means_its_first_second_in_utc() {
        for (text, same) in [
            ("2027-01-31", "2027-01-31T00:00:00Z"),
            ("2027-01-31T01:30:00+01:30", "2027-01-31T00:00:00Z"),
            ("2028-02-29", "2028-02-29T00:00:00Z"),
        ] {
            let moment: Moment = text.parse().expect(text);
            assert_eq!((moment.at().to_string(), moment.to_string()), (same.to_owned(), text.to_owned()));
        }
        for text in ["2027-02-29", "2027-1-31", "tomorrow", "2027-01-31T12:00", "2027-01-31T12:00:00", ""] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_schema_accepts_is_accepted(
            day in "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])",
            time in "(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]))?",
        ) {
            prop_assume!(!day.starts_with("0000") && !day.starts_with("9999"));
            let text = format!("{day}{time}");
            prop_assert!(text.parse::<Moment>().is_ok());
        }
    }
}
