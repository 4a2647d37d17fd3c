//! How eBay sees that an endpoint belongs to the application: it sends a code and expects a digest.

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

/// The body of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeResponse {
    challenge_response: String,
}

/// Hex SHA-256 of the code, the verification token and the endpoint's URL, one after another.
pub fn answer(code: &str, verification_token: &str, endpoint: &str) -> ChallengeResponse {
    let mut hash = Context::new(&SHA256);
    for part in [code, verification_token, endpoint] {
        hash.update(part.as_bytes());
    }
    let hex = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    ChallengeResponse { challenge_response: hex }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf … | sha256sum`.
    #[test]
    fn the_answer_is_the_digest_that_ebay_expects() {
        let answer = answer(
            "a8628072-3d33-45ee-9004-bee86830a22d",
            "71745723-d031-455c-bfa5-f90d11b4f20a",
            "https://www.testendpoint.com/webhook",
        );
        let hex = "a1d8c12dc8f31594e78e3f2c7032c34746144c28ffbdee1cd9cbd4fd2fc618c6";
        let json = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(json, format!("{{\"challengeResponse\":\"{hex}\"}}"));
    }
}
