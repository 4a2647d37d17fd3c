//! Asking the relay for a snapshot, over mutual TLS.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use marketrelay_api::backup::SnapshotRequest;
use marketrelay_pod::{mounts::Entries, tls};
use marketrelay_snapshot::ContainerError;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use snafu::Snafu;
use url::Url;

use crate::Reason;

const PATH: &str = "/v1/snapshot";
const CONNECT: Duration = Duration::from_secs(10);
/// Until the answer begins, and between two reads of it.
const READ: Duration = Duration::from_mins(2);

/// There is no snapshot, or not a whole one.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RelayError {
    #[snafu(display("the Job's own certificate can't be used: {problem}"))]
    Identity { problem: String },
    #[snafu(display("the relay can't be reached: {problem}"))]
    Unreachable { problem: String },
    #[snafu(display("the relay answers HTTP {status}: {message}"))]
    Status { status: u16, message: String },
    #[snafu(display("the relay takes no snapshot: {message}"))]
    Refused { reason: String, message: String },
    #[snafu(display("the snapshot was cut: {problem}"))]
    Cut { problem: String },
    #[snafu(display("{source}"))]
    Container { source: ContainerError },
    #[snafu(display("the snapshot can't be used: {problem}"))]
    Snapshot { problem: String },
}

impl RelayError {
    /// As a Job reports it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Status { .. } | Self::Identity { .. } => {
                Reason::RelayUnreachable
            }
            Self::Refused { reason, .. } if reason == "NoBackupKey" => Reason::NoBackupKey,
            Self::Refused { .. } | Self::Cut { .. } | Self::Container { .. } | Self::Snapshot { .. } => {
                Reason::SnapshotFailed
            }
        }
    }

    /// The relay keeps nothing for the hold whose archive was asked for, as far as it knows yet; one of an earlier version
    /// doesn't know what is asked for.
    pub fn is_of_unknown_hold(&self) -> bool {
        match self {
            Self::Refused { reason, .. } => reason == "HoldUnknown",
            Self::Status { status, .. } => *status == StatusCode::BAD_REQUEST,
            _ => false,
        }
    }

    /// Whether it may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Container { source } => *source == ContainerError::CutShort,
            Self::Status { status, .. } => *status >= 500,
            // The keyring that is mounted follows the operator's by a minute or two.
            Self::Refused { reason, .. } => ["SnapshotRunning", "NoBackupKey"].contains(&reason.as_str()),
            Self::Identity { .. } | Self::Snapshot { .. } => false,
        }
    }
}

/// The relay as a server.
pub struct Relay {
    http: Client,
    url: Url,
}

impl Relay {
    /// With the Job's own certificate.
    pub fn new(entries: &Entries, base: &Url) -> Result<Self, RelayError> {
        let mut url = base.clone();
        url.set_path(PATH);
        let tls =
            tls::mutual(entries).map_err(|error| RelayError::Identity { problem: error.to_string() })?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .http1_only()
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .user_agent(tls::USER_AGENT)
            .build()
            .map_err(|error| RelayError::Identity { problem: innermost(&error) })?;
        Ok(Self { http, url })
    }

    /// The container, as its bytes come.
    pub async fn snapshot(
        &self,
        request: &SnapshotRequest,
    ) -> Result<impl Stream<Item = Result<Bytes, RelayError>> + Unpin, RelayError> {
        let answer = self.http.post(self.url.clone()).json(request).send().await;
        let answer = answer.map_err(|error| RelayError::Unreachable { problem: innermost(&error) })?;
        let status = answer.status();
        if status == StatusCode::CONFLICT {
            return Err(refusal(answer).await);
        }
        if status != StatusCode::OK {
            let message = answer.text().await.unwrap_or_default().trim().to_owned();
            return StatusSnafu { status: status.as_u16(), message }.fail();
        }
        let stream = answer.bytes_stream();
        Ok(stream.map_err(|error| RelayError::Cut { problem: innermost(&error) }))
    }
}

async fn refusal(answer: reqwest::Response) -> RelayError {
    #[derive(Deserialize)]
    struct Refusal {
        reason: String,
        message: String,
    }
    match answer.json().await {
        Ok(Refusal { reason, message }) => RelayError::Refused { reason, message },
        Err(error) => RelayError::Cut { problem: innermost(&error) },
    }
}

/// reqwest's own messages say no more than that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
