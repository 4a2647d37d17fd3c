//! One attempt: post a signed message, read what the destination thinks of it.

use std::time::Duration;

use axum::body::Bytes;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use url::Url;
use zeroize::Zeroizing;

use super::signature::Signer;

/// For the whole attempt, answer included; shorter than the pod's grace period.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What the destination answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Taken,
    /// 410.
    Gone,
    /// 400, 413, 422: this content isn't taken.
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// Anything else, or no answer.
    Failed {
        /// HTTP status, if there was an answer.
        status: Option<u16>,
        /// What happened, without anything of the answer's body.
        detail: String,
        /// `Retry-After`.
        retry_after: Option<SignedDuration>,
    },
}

/// Posts `body`. The answer's body is never read further than the connection needs, and never kept.
pub async fn post(
    client: &Client,
    url: &Url,
    signer: &Signer,
    id: &str,
    now: Timestamp,
    body: Zeroizing<Vec<u8>>,
) -> Answer {
    let timestamp = now.as_second();
    let signature = signer.sign(id, timestamp, &body);
    let request = client
        .post(url.clone())
        .timeout(TIMEOUT)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(Bytes::from_owner(body));
    match request.send().await {
        Ok(response) => classify(response.status(), response.headers(), now),
        Err(error) => Answer::Failed { status: None, detail: describe(&error), retry_after: None },
    }
}

fn classify(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Answer {
    match status.as_u16() {
        200..=299 => Answer::Taken,
        410 => Answer::Gone,
        status @ (400 | 413 | 422) => Answer::Refused { status },
        status => Answer::Failed {
            status: Some(status),
            detail: match status {
                300..=399 => format!(
                    "HTTP {status}: redirects aren't followed, set the final address in spec.destination.webhook.url"
                ),
                401 | 403 => format!("HTTP {status}: compare the signing Secret with the destination's"),
                404 => format!("HTTP {status}: check spec.destination.webhook.url"),
                _ => format!("HTTP {status}"),
            },
            retry_after: retry_after(headers, now),
        },
    }
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let at = rfc2822::parse(value).ok()?.timestamp();
    Some(at.duration_since(now))
}

/// An error's own text may hold the URL with the customer's token in it; its innermost cause doesn't.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        format!("no connection to the host of spec.destination.webhook.url: {cause}")
    } else {
        format!("the connection failed: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_taken_410_disables_and_redirects_fail() {
        let now = Timestamp::UNIX_EPOCH;
        let answer =
            |status| classify(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), now);
        assert_eq!(answer(204), Answer::Taken);
        assert_eq!(answer(410), Answer::Gone);
        for status in [400, 413, 422] {
            assert_eq!(answer(status), Answer::Refused { status });
        }
        for status in [301, 302, 307, 401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(answer(status), Answer::Failed { .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().expect("a time");
        let read = |value: &'static str| {
            let headers = [(RETRY_AFTER, value.parse().expect("a header"))].into_iter().collect();
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(read("soon"), None);
    }
}
