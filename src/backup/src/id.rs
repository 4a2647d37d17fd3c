use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const STAMP: &str = "%Y%m%dT%H%M%SZ";
const RANDOM_DIGITS: usize = 8;

/// A backup's id: the UTC second at which it was begun and eight random hex digits, `20261129T003250Z-5f0c1a2b`. Ids sort
/// by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId {
    text: String,
    begun: Timestamp,
}

impl BackupId {
    /// A new one.
    pub fn mint(now: Timestamp) -> Self {
        let random: u32 = rand::random();
        let text = format!("{}-{random:08x}", now.strftime(STAMP));
        Self { text, begun: second(now) }
    }

    /// One backup has one id: other spellings of the same second aren't ids.
    pub fn parse(text: &str) -> Option<Self> {
        let (stamp, random) = text.split_once('-')?;
        let is_random = random.len() == RANDOM_DIGITS
            && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let civil = DateTime::strptime(STAMP, stamp).ok()?;
        let begun = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let is_id = is_random && begun.strftime(STAMP).to_string() == stamp;
        is_id.then(|| Self { text: text.to_owned(), begun })
    }

    /// When it was begun.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_that_only_looks_like_one_does() {
        let now: Timestamp = "2026-11-29T00:32:50.7Z".parse().expect("a time");
        let id = BackupId::mint(now);
        assert!(id.as_str().starts_with("20261129T003250Z-"), "{id}");
        assert_eq!(BackupId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(id.begun(), "2026-11-29T00:32:50Z".parse().expect("a time"));
        for text in [
            "",
            "20261129T003250Z",
            "20261129T003250Z-",
            "20261129T003250Z-5f0c1a2",
            "20261129T003250Z-5f0c1a2b3",
            "20261129T003250Z-5F0C1A2B",
            "20261129T003250Z-5f0c1a2b/data",
            "20261329T003250Z-5f0c1a2b",
            "2026-11-29T003250Z-5f0c1a2b",
            "+20261129T003250Z-5f0c1a2b",
            "20261129T003250-5f0c1a2b",
            "20261129T003260Z-5f0c1a2b",
        ] {
            assert_eq!(BackupId::parse(text), None, "{text}");
        }
    }
}
