//! One call: time-out, bounded body, and what a status means.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::CollectError;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Nobody is to be waited for longer than this on their word.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// What came back. The body names people and is zeroized.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// Sends a request and reads the whole answer, whatever its status.
pub(crate) async fn send(call: &'static str, request: RequestBuilder) -> Result<Answer, CollectError> {
    let mut response = request.timeout(TIMEOUT).send().await.map_err(|error| unavailable(call, &error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(call, &error))? {
        if body.len() + chunk.len() > MAX_BODY {
            let detail = format!("the answer is larger than {} MiB", MAX_BODY / 1024 / 1024);
            return Err(CollectError::Protocol { call, detail });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

/// The error's own text may hold the URL, and an order's number in it.
fn unavailable(call: &'static str, error: &reqwest::Error) -> CollectError {
    let detail = if error.is_timeout() {
        format!("no full answer within {} s", TIMEOUT.as_secs())
    } else if error.is_connect() {
        "no connection".to_owned()
    } else if error.is_body() || error.is_decode() {
        "the answer was cut short".to_owned()
    } else {
        "the connection failed".to_owned()
    };
    CollectError::Unavailable { call, detail, retry_after: None }
}

impl Answer {
    /// The error that this status stands for, if it isn't a success.
    pub(crate) fn failure(&self, call: &'static str) -> Option<CollectError> {
        let status = self.status.as_u16();
        Some(match status {
            200..=299 => return None,
            401 | 403 => CollectError::Unauthorized { call, status, code: self.code() },
            429 => CollectError::Throttled { call, retry_after: self.retry_after(Timestamp::now()) },
            408 | 500..=599 => CollectError::Unavailable {
                call,
                detail: format!("HTTP {status}{}", self.code()),
                retry_after: self.retry_after(Timestamp::now()),
            },
            _ => CollectError::Protocol { call, detail: format!("HTTP {status}{}", self.code()) },
        })
    }

    /// The body as the documented type; a mistake in it is told by its field, never by its value.
    pub(crate) fn parse<T: DeserializeOwned>(&self, call: &'static str) -> Result<T, CollectError> {
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            if error.inner().is_eof() {
                let detail = "the answer was cut short".to_owned();
                return CollectError::Unavailable { call, detail, retry_after: None };
            }
            let what = if error.inner().is_data() { "is missing, or not of its type" } else { "isn't JSON" };
            CollectError::Protocol { call, detail: format!("field {} {what}", error.path()) }
        })
    }

    /// The marketplace's error code in brackets, or nothing: a bounded word, no free text.
    pub(crate) fn code(&self) -> String {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&self.body) else { return String::new() };
        let first = &body["errors"][0];
        let places = [&first["code"], &first["errorId"], &body["error"], &body["violations"][0]["name"]];
        let code = places.into_iter().find_map(|place| match place {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        match code {
            Some(code) if !code.is_empty() && code.len() <= 48 && code.chars().all(plain) => {
                format!(" ({code})")
            }
            _ => String::new(),
        }
    }

    /// `Retry-After` as seconds or as a date, else Bol.com's `x-ratelimit-reset` in seconds.
    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let after = self.header(RETRY_AFTER.as_str()).and_then(|value| parse_retry_after(value, now));
        after.or_else(|| self.reset()).map(|wait| wait.min(MAX_RETRY_AFTER))
    }

    /// How long Bol.com's budget of calls stays used up, if this call took the last of it.
    pub(crate) fn exhausted(&self) -> Option<Duration> {
        let remaining: u64 = self.header("x-ratelimit-remaining")?.parse().ok()?;
        self.reset().filter(|_| remaining == 0)
    }

    fn reset(&self) -> Option<Duration> {
        self.header("x-ratelimit-reset").and_then(|value| value.parse().ok()).map(Duration::from_secs)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }
}

fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: headers.collect(), body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().expect("a time");
        let read = |value| parse_retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(read("Wed, 21 Oct 2015 07:20:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        let far = answer(429, &[("retry-after", "99999999999")], "");
        assert_eq!(far.failure("x").and_then(|e| e.retry_after()), Some(MAX_RETRY_AFTER));
        let reset = answer(429, &[("x-ratelimit-reset", "3")], "");
        assert_eq!(reset.failure("x").and_then(|e| e.retry_after()), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_used_up_budget_is_told_by_its_headers() {
        let told = |remaining| {
            answer(200, &[("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", "7")], "").exhausted()
        };
        assert_eq!((told("0"), told("1")), (Some(Duration::from_secs(7)), None));
        assert_eq!(answer(200, &[], "").exhausted(), None);
    }

    #[test]
    fn an_error_tells_the_marketplaces_code_but_no_free_text() {
        for (body, code) in [
            (r#"{"errors":[{"code":"QuotaExceeded","message":"Jane"}]}"#, " (QuotaExceeded)"),
            (r#"{"errors":[{"errorId":30800}]}"#, " (30800)"),
            (r#"{"error":"invalid_grant","error_description":"x"}"#, " (invalid_grant)"),
            (r#"{"status":400,"violations":[{"name":"page","reason":"x"}]}"#, " (page)"),
            (r#"{"error":"Jane Doe did it"}"#, ""),
            ("half a bo", ""),
        ] {
            assert_eq!(answer(400, &[], body).code(), code, "{body}");
        }
    }

    #[test]
    fn each_status_has_its_category() {
        for (status, category) in [
            (401, "CredentialsRejected"),
            (403, "CredentialsRejected"),
            (429, "Throttled"),
            (500, "MarketplaceUnavailable"),
            (503, "MarketplaceUnavailable"),
            (408, "MarketplaceUnavailable"),
            (302, "UnexpectedAnswer"),
            (400, "UnexpectedAnswer"),
        ] {
            let failure = answer(status, &[], "").failure("getOrders").expect("a failure");
            assert_eq!(failure.category(), category, "{status}");
        }
        assert!(answer(200, &[], "").failure("getOrders").is_none());
    }

    #[test]
    fn a_wrong_field_is_named_and_its_value_is_not() {
        #[derive(Debug, serde::Deserialize)]
        struct Wire {
            #[expect(dead_code, reason = "read by the parser alone")]
            orders: Vec<u32>,
        }
        let error =
            answer(200, &[], r#"{"orders":[1,"Jane Doe"]}"#).parse::<Wire>("getOrders").expect_err("wrong");
        assert_eq!(error.category(), "UnexpectedAnswer");
        assert!(error.to_string().contains("orders[1]"), "{error}");
        assert!(!error.to_string().contains("Jane"), "{error}");
        let error = answer(200, &[], r#"{"orders":[1,"#).parse::<Wire>("getOrders").expect_err("half");
        assert_eq!(error.category(), "MarketplaceUnavailable");
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_crash(status in 200_u16..600, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = Answer { status, headers: HeaderMap::new(), body: Zeroizing::new(bytes) };
            let _ = (answer.failure("x"), answer.code(), answer.parse::<serde_json::Value>("x"));
        }

        #[test]
        fn no_retry_after_is_a_crash(value in ".*") {
            let _ = parse_retry_after(&value, Timestamp::UNIX_EPOCH);
        }
    }
}
