//! eBay's side of account deletion notices: the challenge of an endpoint, and notices that are signed, or forged.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest},
    encoding::AsDer,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rand::RngExt;
use reqwest::Client;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{marketplaces::utc, state::Shared};

/// An endpoint has this long to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key that notices are signed with.
pub(crate) struct Notices {
    pub(crate) key_id: String,
    /// Without line breaks, as eBay writes it.
    pub(crate) pem: String,
    pair: EcdsaKeyPair,
}

impl Notices {
    /// A new key.
    pub(crate) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("randomness");
        let der = pair.public_key().as_der().expect("a new key");
        let der = BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----{der}-----END PUBLIC KEY-----");
        Self { key_id: random_id(), pem, pair }
    }

    /// The header `X-EBAY-SIGNATURE`. ECDSA signs a number of 256 bits: SHA-1's 160 with zeros before them.
    fn header(&self, body: &[u8], key_id: &str) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, body);
        let number = [&[0; 12], hash.as_ref()].concat();
        let number = Digest::import_less_safe(&number, &SHA256).expect("32 bytes");
        let signature = self.pair.sign_digest(&number).expect("a signature");
        let signature = BASE64_STANDARD.encode(signature.as_ref());
        let header = json!({"alg": "ecdsa", "kid": key_id, "signature": signature, "digest": "SHA1"});
        BASE64_STANDARD.encode(header.to_string())
    }
}

fn random_id() -> String {
    let half = || rand::rng().random::<u64>();
    format!("{:016x}-{:016x}", half(), half())
}

/// Somebody else's hand in a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Forgery {
    /// Another user name after signing.
    ChangedBody,
    /// Signed with a key that eBay doesn't have.
    UnknownKey,
    NoSignature,
    /// Signed, but of another topic.
    OtherTopic,
}

/// A notice that is to be sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Order {
    /// The endpoint.
    url: String,
    /// Authorities of its certificate, PEM.
    ca: String,
    username: String,
    user_id: String,
    /// A new one if there is none.
    #[serde(default)]
    notification_id: Option<String>,
    #[serde(default)]
    forgery: Option<Forgery>,
}

impl Order {
    fn body(&self, id: &str, now: Timestamp) -> String {
        let other = self.forgery == Some(Forgery::OtherTopic);
        let topic = if other { "ITEM_AVAILABILITY" } else { "MARKETPLACE_ACCOUNT_DELETION" };
        let body = json!({
            "metadata": {"topic": topic, "schemaVersion": "1.0", "deprecated": false},
            "notification": {
                "notificationId": id, "eventDate": utc(now), "publishDate": utc(now), "publishAttemptCount": 1,
                "data": {"username": self.username, "userId": self.user_id, "eiasToken": "nY+sHZ2PrBmdj6wVnY+sEZ2PrA2dj6wJ"},
            },
        });
        body.to_string()
    }
}

/// The id of the key.
pub(crate) async fn key(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({"id": shared.notices.key_id}))
}

/// Sends a notice; tells its id and how it was answered.
pub(crate) async fn send(State(shared): State<Shared>, Json(order): Json<Order>) -> Response {
    let Some(http) = client(&order.ca) else { return StatusCode::BAD_REQUEST.into_response() };
    let id = order.notification_id.clone().unwrap_or_else(random_id);
    let mut body = order.body(&id, Timestamp::now());
    let notices: &Arc<Notices> = &shared.notices;
    let unknown = random_id();
    let key_id = if order.forgery == Some(Forgery::UnknownKey) { &unknown } else { &notices.key_id };
    let header = notices.header(body.as_bytes(), key_id);
    if order.forgery == Some(Forgery::ChangedBody) {
        body = body.replace(&order.username, "somebody-else");
    }
    let mut request = http.post(&order.url).header("content-type", "application/json").body(body);
    if order.forgery != Some(Forgery::NoSignature) {
        request = request.header("x-ebay-signature", header);
    }
    match request.send().await {
        Ok(answer) => {
            let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let told = json!({"notificationId": id, "status": answer.status().as_u16(), "retryAfter": wait});
            Json(told).into_response()
        }
        Err(error) => unreachable(&error),
    }
}

/// An endpoint that is to be registered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Registration {
    url: String,
    ca: String,
    verification_token: String,
}

/// Sends a challenge; tells whether the answer is right.
pub(crate) async fn challenge(Json(registration): Json<Registration>) -> Response {
    let Registration { url, ca, verification_token } = registration;
    let Some(http) = client(&ca) else { return StatusCode::BAD_REQUEST.into_response() };
    let code = random_id();
    let mut hash = Context::new(&SHA256);
    for part in [&code, &verification_token, &url] {
        hash.update(part.as_bytes());
    }
    let expected: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match http.get(&url).query(&[("challenge_code", &code)]).send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
            let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
            let body: Value = answer.json().await.unwrap_or_default();
            let valid = status == 200 && is_json && body == json!({"challengeResponse": expected});
            Json(json!({"status": status, "valid": valid})).into_response()
        }
        Err(error) => unreachable(&error),
    }
}

fn unreachable(error: &reqwest::Error) -> Response {
    (StatusCode::BAD_GATEWAY, format!("the endpoint doesn't answer: {error:?}")).into_response()
}

fn client(ca: &str) -> Option<Client> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(PATIENCE).build().ok()
}
