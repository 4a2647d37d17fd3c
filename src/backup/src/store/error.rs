//! What went wrong at the store, as something that a person can mend.

use std::{error::Error, fmt, iter::successors};

use http::StatusCode;
use object_store::client::HttpError;
use serde::Deserialize;
use snafu::Snafu;

use crate::Reason;

/// Of versitygw, with 404: nobody has this access key.
const UNKNOWN_USER: &str = "XAdminUserNotFound";

/// A store can't do what is asked of it.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[snafu(display("the store can't be reached: {problem}"))]
    Unreachable { problem: String },
    #[snafu(display("the store refuses the credentials, or they may not do this: {refusal}"))]
    Refused { refusal: Refusal },
    #[snafu(display("the store has no such bucket: {refusal}"))]
    BucketNotFound { refusal: Refusal },
    #[snafu(display("the store has no room: {refusal}"))]
    Full { refusal: Refusal },
    #[snafu(display("the store asks to be asked less often: {refusal}"))]
    Throttled { refusal: Refusal },
    #[snafu(display("the store's clock and this one differ by more than it allows: {refusal}"))]
    ClockSkew { refusal: Refusal },
    #[snafu(display("the store's object lock keeps it: {refusal}"))]
    Locked { refusal: Refusal },
    #[snafu(display("the store can't do what backups need: {refusal}"))]
    NotImplemented { refusal: Refusal },
    #[snafu(display("the store's configuration can't work: {problem}"))]
    Invalid { problem: String },
    #[snafu(display("it isn't in the store: {refusal}"))]
    NotFound { refusal: Refusal },
    #[snafu(display("the store has one of this name already, with other contents: {refusal}"))]
    Exists { refusal: Refusal },
    #[snafu(display("the store answers what S3 doesn't: {problem}"))]
    Answer { problem: String },
}

impl StoreError {
    /// As a Job reports it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::NotFound { .. } | Self::Exists { .. } => {
                Reason::StoreUnreachable
            }
            Self::Refused { .. } => Reason::StoreRefused,
            Self::BucketNotFound { .. } => Reason::BucketNotFound,
            Self::Full { .. } => Reason::StoreFull,
            Self::Throttled { .. } => Reason::StoreThrottled,
            Self::ClockSkew { .. } => Reason::ClockSkew,
            Self::Locked { .. } => Reason::ObjectLocked,
            Self::NotImplemented { .. } | Self::Invalid { .. } | Self::Answer { .. } => Reason::StoreInvalid,
        }
    }

    /// Whether it may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Throttled { .. })
    }
}

/// What an error status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

impl Refusal {
    /// From an answer's status and body.
    pub(super) fn new(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Body {
            code: String,
            message: String,
        }
        let text = String::from_utf8_lossy(body);
        let Body { code, message } = quick_xml::de::from_str(&text).unwrap_or_default();
        Self { status, code, message }
    }

    /// Whether the same request may be answered otherwise in a moment.
    pub(super) fn is_passing(&self) -> bool {
        self.status.is_server_error() && !self.is_full() && self.status != StatusCode::NOT_IMPLEMENTED
            || matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            || self.code == "RequestTimeout"
    }

    fn is_full(&self) -> bool {
        let codes = ["InsufficientStorage", "QuotaExceeded", "ServiceQuotaExceeded", "XMinioStorageFull"];
        self.status == StatusCode::INSUFFICIENT_STORAGE
            || codes.contains(&self.code.as_str())
            || self.message.contains("cap exceeded")
            || self.message.to_ascii_lowercase().contains("no space left")
    }

    fn is_locked(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let says_so = message.contains("object lock") || message.contains("worm protected");
        // 404: there is no lock.
        self.code == "ObjectLocked" || says_so && self.status != StatusCode::NOT_FOUND
    }

    fn into_error(self) -> StoreError {
        let refusal = self;
        if refusal.is_full() {
            return StoreError::Full { refusal };
        }
        if refusal.is_locked() {
            return StoreError::Locked { refusal };
        }
        match (refusal.code.as_str(), refusal.status) {
            ("RequestTimeTooSkewed" | "RequestExpired", _) => StoreError::ClockSkew { refusal },
            ("NoSuchBucket", _) => StoreError::BucketNotFound { refusal },
            ("InvalidBucketName", _) => StoreError::Invalid { problem: refusal.to_string() },
            (
                "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException",
                _,
            ) => {
                let problem = format!("is the bucket in another region? {refusal}");
                StoreError::Invalid { problem }
            }
            ("SlowDown" | "Throttling" | "TooManyRequests" | "RequestLimitExceeded", _)
            | (_, StatusCode::TOO_MANY_REQUESTS) => StoreError::Throttled { refusal },
            ("InvalidToken" | "ExpiredToken" | "InvalidAccessKeyId" | UNKNOWN_USER, _)
            | (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => StoreError::Refused { refusal },
            ("NotImplemented", _) | (_, StatusCode::NOT_IMPLEMENTED) => {
                StoreError::NotImplemented { refusal }
            }
            // The answer to a HEAD has no code.
            ("NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "", StatusCode::NOT_FOUND) => {
                StoreError::NotFound { refusal }
            }
            (_, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) => StoreError::Exists { refusal },
            _ if refusal.is_passing() => StoreError::Unreachable { problem: refusal.to_string() },
            _ => StoreError::Answer { problem: refusal.to_string() },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status.as_u16())?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ", {}", self.message)?;
        }
        Ok(())
    }
}

impl Error for Refusal {}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        of(&error)
    }
}

impl From<HttpError> for StoreError {
    fn from(error: HttpError) -> Self {
        of(&error)
    }
}

/// What our own client found is in the chain of what `object_store` makes of it.
fn of(error: &(dyn Error + 'static)) -> StoreError {
    let chain: Vec<&(dyn Error + 'static)> = successors(Some(error), |last| Error::source(*last)).collect();
    if let Some(refusal) = chain.iter().find_map(|cause| cause.downcast_ref::<Refusal>()) {
        return refusal.clone().into_error();
    }
    let problem = chain.last().map(ToString::to_string).unwrap_or_default();
    if chain.iter().any(|cause| cause.is::<HttpError>()) {
        let hint = if problem.contains("certificate") {
            " (an authority that isn't public goes into egress.extraCaCertificates of the operator's configuration, by hand \
             into --ca FILE)"
        } else {
            ""
        };
        return StoreError::Unreachable { problem: format!("{problem}{hint}") };
    }
    StoreError::Answer { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: u16, code: &str, message: &str) -> Reason {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
        );
        let status = StatusCode::from_u16(status).expect("a status");
        Refusal::new(status, body.as_bytes()).into_error().reason()
    }

    #[test]
    fn what_stores_answer_has_the_reason_that_a_person_can_act_on() {
        for (status, code, message, expected) in [
            (403, "SignatureDoesNotMatch", "", Reason::StoreRefused),
            (403, "AccessDenied", "Access Denied.", Reason::StoreRefused),
            (403, "InvalidAccessKeyId", "", Reason::StoreRefused),
            (
                404,
                "XAdminUserNotFound",
                "No user exists with the provided access key ID.",
                Reason::StoreRefused,
            ),
            (404, "NoSuchTagSet", "", Reason::StoreInvalid),
            (400, "ExpiredToken", "", Reason::StoreRefused),
            (403, "RequestTimeTooSkewed", "", Reason::ClockSkew),
            (404, "NoSuchBucket", "", Reason::BucketNotFound),
            (507, "InsufficientStorage", "", Reason::StoreFull),
            (507, "XMinioStorageFull", "", Reason::StoreFull),
            (403, "AccessDenied", "Cannot upload files, storage cap exceeded.", Reason::StoreFull),
            (503, "SlowDown", "", Reason::StoreThrottled),
            (429, "", "", Reason::StoreThrottled),
            (500, "InternalError", "", Reason::StoreUnreachable),
            (502, "", "", Reason::StoreUnreachable),
            (
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
                Reason::ObjectLocked,
            ),
            (
                400,
                "InvalidRequest",
                "Object is WORM protected and cannot be overwritten",
                Reason::ObjectLocked,
            ),
            (400, "AuthorizationHeaderMalformed", "the region 'a' is wrong", Reason::StoreInvalid),
            (501, "NotImplemented", "", Reason::StoreInvalid),
            (
                404,
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket.",
                Reason::StoreInvalid,
            ),
        ] {
            assert_eq!(reason(status, code, message), expected, "{status} {code} {message}");
        }
    }

    #[test]
    fn only_what_a_store_says_is_missing_is_told_as_missing() {
        for (code, is_missing) in [
            ("NoSuchKey", true),
            ("NoSuchUpload", true),
            ("NoSuchVersion", true),
            ("", true),
            ("NoSuchBucket", false),
            ("XAdminUserNotFound", false),
            ("NoSuchSomethingElse", false),
        ] {
            let body = format!("<Error><Code>{code}</Code></Error>");
            let error = Refusal::new(StatusCode::NOT_FOUND, body.as_bytes()).into_error();
            assert_eq!(matches!(error, StoreError::NotFound { .. }), is_missing, "{code}: {error}");
        }
    }

    #[test]
    fn an_answer_that_is_not_xml_is_named_by_its_status() {
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, b"<html>Bad gateway");
        assert_eq!(refusal.to_string(), "HTTP 502");
        assert!(refusal.is_passing());
        assert!(!Refusal::new(StatusCode::INSUFFICIENT_STORAGE, b"").is_passing());
    }
}
