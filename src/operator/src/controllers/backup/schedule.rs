//! When backups are taken. Pure.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp, Zoned,
    civil::{Date, date},
    tz::{TimeZone, TimeZoneDatabase},
};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

const DAY: i64 = 86_400;
/// Of each field, which values `H` can stand for: days that every month has.
const HASHED: [(u64, u64); 5] = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)];
/// The pauses of this time are all that a schedule has, leap days aside.
const FIRST_DAY: Date = date(2024, 1, 1);
const LAST_DAY: Date = date(2026, 1, 1);

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Why a schedule can't be kept.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ScheduleError {
    #[snafu(display("schedule can't be understood ({source}): write five fields such as 'H H * * *'"))]
    Syntax { source: CronError },
    #[snafu(display("schedule names no day that there is: write one such as 'H H * * *'"))]
    Never,
    #[snafu(display("timeZone: {zone} isn't known: write a name such as Europe/Amsterdam or Etc/UTC"))]
    Zone { zone: String },
}

/// What a schedule means.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    cron: Cron,
}

impl Schedule {
    /// Reads one. What `H` stands for makes no difference to what is wrong with it, nor to its intervals.
    pub fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
        let known = ZONES.get(zone).ok();
        // Kubernetes' names are case-sensitive.
        let known = known.filter(|known| known.iana_name() == Some(zone));
        let text = expand(text, "");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).context(SyntaxSnafu)?;
        let schedule = Self { text, zone: known.context(ZoneSnafu { zone })?, cron };
        ensure!(schedule.day_after(FIRST_DAY).is_some(), NeverSnafu);
        Ok(schedule)
    }

    /// When it is due next.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&after, false).ok().map(|next| next.timestamp())
    }

    /// The longest time between two runs, where days have 24 hours.
    pub fn longest_interval(&self) -> SignedDuration {
        let (hours, minutes) = (self.cron.pattern.hours.values(), self.cron.pattern.minutes.values());
        let second = |hour: u16, minute: u16| i64::from(hour) * 3_600 + i64::from(minute) * 60;
        let times: Vec<_> =
            hours.iter().flat_map(|hour| minutes.iter().map(|minute| second(*hour, *minute))).collect();
        let within = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let day = times.first().zip(times.last()).map_or(0, |(first, last)| last - first);
        SignedDuration::from_secs(within.max(self.longest_pause() * DAY - day))
    }

    /// From one day with a run to the next, in days.
    fn longest_pause(&self) -> i64 {
        if self.text.ends_with("* * *") {
            return 1;
        }
        let (mut longest, mut last) = (0, None);
        let mut day = FIRST_DAY;
        while let Some(next) = self.day_after(day).filter(|_| day < LAST_DAY) {
            longest = last.map_or(0, |last: Date| i64::from((next - last).get_days())).max(longest);
            (day, last) = (next.tomorrow().unwrap_or(Date::MAX), Some(next));
        }
        longest
    }

    /// The first day with a run, from this one on.
    fn day_after(&self, day: Date) -> Option<Date> {
        let midnight: Zoned = day.to_zoned(TimeZone::UTC).ok()?;
        self.cron.find_next_occurrence(&midnight, true).ok().map(|next| next.date())
    }
}

/// A schedule as a CronJob has it: `H` is replaced by a value of the seed's own.
pub fn expand(text: &str, seed: &str) -> String {
    let fields = text.split(' ').enumerate().map(|(number, field)| match (field, HASHED.get(number)) {
        ("H", Some((first, last))) => (first + hash(seed, number) % (last - first + 1)).to_string(),
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// The same for ever.
fn hash(seed: &str, field: usize) -> u64 {
    let digest = digest::digest(&digest::SHA256, format!("{seed}/{field}").as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn schedule(text: &str) -> Schedule {
        Schedule::parse(text, "Etc/UTC").expect(text)
    }

    #[test]
    fn a_connections_own_time_stays_and_differs_between_sites_and_connections() {
        let times: BTreeSet<_> = (0..200)
            .flat_map(|number| ["on-site", "off-site"].map(|site| format!("{number}/{site}")))
            .map(|seed| expand("H H * * *", &seed))
            .collect();
        assert!(times.len() > 300, "{} different times", times.len());
        assert_eq!(expand("H H * * *", "3f6c/on-site"), "39 0 * * *", "it never changes");
        for (number, range) in HASHED.iter().enumerate() {
            let values: BTreeSet<_> = (0..2_000)
                .map(|seed| range.0 + hash(&seed.to_string(), number) % (range.1 - range.0 + 1))
                .collect();
            assert_eq!((values.first(), values.last()), (Some(&range.0), Some(&range.1)));
        }
    }

    #[test]
    fn the_longest_interval_is_what_a_person_would_say() {
        for (text, hours) in [
            ("H H * * *", 24),
            ("0 * * * *", 1),
            ("*/20 1 * * *", 24),
            ("0 */6 * * *", 6),
            ("0 8,20 * * *", 12),
            ("0 8-18 * * *", 14),
            ("H H * * H", 7 * 24),
            ("H H * * mon-fri", 3 * 24),
            ("0 0 1 * *", 31 * 24),
            ("0 0 1,15 * *", 17 * 24),
            ("0 12 1 jan *", 366 * 24),
            ("0 0 29 2 *", (4 * 365 + 1) * 24),
        ] {
            let longest = schedule(text).longest_interval();
            let expected = SignedDuration::from_hours(hours);
            let inside =
                if text.starts_with("*/20") { SignedDuration::from_mins(40) } else { SignedDuration::ZERO };
            assert_eq!(longest, expected - inside, "{text}");
        }
    }

    #[test]
    fn a_time_zone_shifts_the_next_run() {
        let at = |text: &str| text.parse::<Timestamp>().expect(text);
        let amsterdam = Schedule::parse("30 3 * * *", "Europe/Amsterdam").expect("a schedule");
        for (after, next) in [
            ("2026-01-10T02:29:59Z", "2026-01-10T02:30:00Z"),
            ("2026-01-10T02:30:00Z", "2026-01-11T02:30:00Z"),
            ("2026-07-10T00:00:00Z", "2026-07-10T01:30:00Z"),
        ] {
            assert_eq!(amsterdam.next(at(after)), Some(at(next)), "{after}");
        }
    }

    #[test]
    fn what_cant_be_kept_says_which_field_is_wrong() {
        for (text, zone, part) in [
            ("0 0 30 2 *", "Etc/UTC", "schedule names no day that there is"),
            ("30-10 0 * * *", "Etc/UTC", "schedule can't be understood"),
            ("0 0 * * * *", "Etc/UTC", "schedule can't be understood"),
            ("H H * * *", "Mars/Base", "timeZone: Mars/Base isn't known"),
            ("H H * * *", "europe/amsterdam", "timeZone: europe/amsterdam isn't known"),
        ] {
            let error = Schedule::parse(text, zone).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
