//! The body of a notice.

use marketrelay_api::notices::EbayNotice;
use serde::Deserialize;
use snafu::{Snafu, ensure};

const TOPIC: &str = "MARKETPLACE_ACCOUNT_DELETION";
/// eBay's names have 64 characters at most.
const LONGEST: usize = 256;

/// Why a notice of eBay's can't become an erasure. Nothing of the body is told.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unusable {
    #[snafu(display("the body isn't a notice as eBay describes it"))]
    Form,
    #[snafu(display("the notice is of another topic: subscribe this endpoint to {TOPIC} alone"))]
    Topic,
    #[snafu(display("the notice names nobody"))]
    Nobody,
}

#[derive(Deserialize)]
struct Body {
    metadata: Metadata,
    notification: serde_json::Value,
}

#[derive(Deserialize)]
struct Metadata {
    topic: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    notification_id: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
}

/// Reads a body whose signature holds. Orders name a buyer by the user name, or by the immutable user id in its place.
pub fn parse(body: &[u8]) -> Result<EbayNotice, Unusable> {
    let Body { metadata, notification } = serde_json::from_slice(body).ok().ok_or(Unusable::Form)?;
    ensure!(metadata.topic == TOPIC, TopicSnafu);
    let Notification { notification_id, data } =
        serde_json::from_value(notification).ok().ok_or(Unusable::Form)?;
    let notice = EbayNotice {
        notification_id,
        buyers: [data.username, data.user_id]
            .into_iter()
            .flatten()
            .filter(|name| !name.trim().is_empty())
            .collect(),
    };
    ensure!(!notice.buyers.is_empty(), NobodySnafu);
    let fits = |text: &String| (1..=LONGEST).contains(&text.len());
    ensure!(notice.buyers.iter().chain([&notice.notification_id]).all(fits), FormSnafu);
    Ok(notice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn body(data: &Value) -> Vec<u8> {
        let body = json!({
            "metadata": {"topic": TOPIC, "schemaVersion": "1.0", "deprecated": false},
            "notification": {"notificationId": "n-1", "eventDate": "2021-03-19T20:43:59.462Z",
                "publishDate": "2021-03-19T20:43:59.679Z", "publishAttemptCount": 1, "data": data},
        });
        body.to_string().into_bytes()
    }

    #[test]
    fn the_user_name_and_the_immutable_id_are_taken_and_nothing_else() {
        let data = json!({"username": "zoe", "userId": "ma8vp1jySJC", "eiasToken": "nY+sHZ2"});
        let notice = parse(&body(&data)).expect("a notice");
        assert_eq!((notice.notification_id.as_str(), notice.buyers.len()), ("n-1", 2));
        assert_eq!(notice.buyers, ["zoe", "ma8vp1jySJC"]);
        let notice = parse(&body(&json!({"username": null, "userId": "ma8vp1jySJC"}))).expect("a notice");
        assert_eq!(notice.buyers, ["ma8vp1jySJC"]);
    }

    #[test]
    fn what_can_not_become_an_erasure_is_told_apart() {
        let long = json!({"username": "z".repeat(LONGEST + 1)});
        for (bytes, why) in [
            (b"{}".to_vec(), Unusable::Form),
            (body(&json!({"username": 7})), Unusable::Form),
            (body(&long), Unusable::Form),
            (body(&json!({"username": " ", "eiasToken": "x"})), Unusable::Nobody),
            (br#"{"metadata":{"topic":"ITEM_SOLD"},"notification":{}}"#.to_vec(), Unusable::Topic),
        ] {
            assert_eq!(parse(&bytes).err(), Some(why));
        }
    }

    proptest! {
        #[test]
        fn no_body_is_a_crash(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            username in ".*",
            id in proptest::option::of(".*"),
        ) {
            let _ = (parse(&bytes).is_ok(), parse(&body(&json!({"username": username, "userId": id}))).is_ok());
        }
    }
}
