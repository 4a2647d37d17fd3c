//! What the cursors of the three marketplaces share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{CollectError, Cursor, Order, Page};

const VERSION: u32 = 1;

/// Everything up to the watermark is collected; `position` is the place inside the window that is being read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<P> {
    version: u32,
    pub(crate) watermark: Timestamp,
    #[serde(default)]
    pub(crate) known_until: Option<Timestamp>,
    pub(crate) position: Option<P>,
}

/// What every version of the cursor has had.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Core {
    watermark: Timestamp,
    #[serde(default)]
    known_until: Option<Timestamp>,
}

impl<P: Serialize + DeserializeOwned> State<P> {
    pub(crate) fn start(since: Timestamp) -> Self {
        Self { version: VERSION, watermark: since, known_until: None, position: None }
    }

    /// A cursor of another version starts its window again from the watermark.
    pub(crate) fn read(cursor: &Cursor) -> Result<Self, CollectError> {
        if let Ok(state) = Self::deserialize(&cursor.0)
            && state.version == VERSION
        {
            return Ok(state);
        }
        let core = Core::deserialize(&cursor.0).map_err(|_| CollectError::Protocol {
            call: "stored cursor",
            detail: "field watermark, the time to go on from, is missing or no time".to_owned(),
        })?;
        Ok(Self { known_until: core.known_until, ..Self::start(core.watermark) })
    }

    pub(crate) fn write(&self) -> Cursor {
        // Numbers, strings and times always have a JSON form.
        Cursor(serde_json::to_value(self).unwrap_or_default())
    }

    pub(crate) fn page(&self, mut orders: Vec<Order>, more: bool) -> Page {
        orders.sort_by_key(|order| order.updated_at);
        Page { orders, cursor: self.write(), more, known_until: self.known_until }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cursor_of_another_version_goes_on_from_its_watermark() {
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let known: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        for other in [
            json!({"version": 2, "watermark": at, "knownUntil": known, "position": 3}),
            json!({"version": 1, "watermark": at, "knownUntil": known, "position": {"of": "another shape"}}),
            json!({"version": "x", "watermark": at, "knownUntil": known}),
        ] {
            let state = State::<u32>::read(&Cursor(other)).expect("a restart");
            assert_eq!(state, State { known_until: Some(known), ..State::start(at) });
        }
    }

    #[test]
    fn a_cursor_without_a_watermark_is_a_clear_error() {
        let error = State::<u32>::read(&Cursor(json!({"version": 1}))).expect_err("no watermark");
        assert!(error.to_string().contains("watermark"), "{error}");
    }

    #[test]
    fn a_cursor_survives_being_stored() {
        let state =
            State { position: Some(7), ..State::start("2026-01-02T03:04:05Z".parse().expect("a time")) };
        assert_eq!(State::read(&state.write()).expect("the same"), state);
    }
}
