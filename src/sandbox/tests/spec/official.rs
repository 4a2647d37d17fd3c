//! Official API files as JSON Schemas.

use std::{fs, path::Path};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// One official file.
pub struct Official(Value);

impl Official {
    pub fn amazon() -> Self {
        Self::read("amazon/orders_2026-01-01.json")
    }

    pub fn ebay() -> Self {
        Self::read("ebay/sell_fulfillment_v1_oas3.json")
    }

    pub fn ebay_notifications() -> Self {
        Self::read("ebay/commerce_notification_v1_oas3.json")
    }

    pub fn bol() -> Self {
        Self::read("bol/retailer.json")
    }

    /// No object may have more than the file describes, or a wrong name would go unnoticed.
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../specs").join(name);
        let text = fs::read_to_string(path).expect("an official file");
        let mut file: Value = serde_json::from_str(&text).expect("JSON");
        let place = if file["definitions"].is_object() { "/definitions" } else { "/components/schemas" };
        let schemas = file.pointer_mut(place).and_then(Value::as_object_mut).expect("schemas");
        for schema in schemas.values_mut().filter(|schema| schema["properties"].is_object()) {
            schema["additionalProperties"] = json!(false);
        }
        Self(file)
    }

    pub fn validator(&self, name: &str) -> Validator {
        let place =
            if self.0["definitions"].is_object() { "#/definitions/" } else { "#/components/schemas/" };
        let mut schema = self.0.clone();
        schema["$ref"] = json!(format!("{place}{name}"));
        jsonschema::options().with_draft(Draft::Draft202012).build(&schema).expect("a schema")
    }

    /// Fails if `body` isn't as the schema of that name says.
    pub fn check(&self, name: &str, body: &Value) {
        let errors: Vec<_> =
            self.validator(name).iter_errors(body).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{body:#}");
    }
}

/// RFC 6749, 5.1 and 5.2: none of the official files describes the token endpoints.
pub fn check_token(body: &Value) {
    let text = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
    assert!(text("access_token") && text("token_type") && body["expires_in"].is_u64(), "{body}");
}

pub fn check_token_error(body: &Value) {
    let codes = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
    ];
    assert!(codes.iter().any(|code| body["error"] == *code), "{body}");
}

#[test]
fn the_check_finds_a_missing_a_wrong_and_an_unknown_field() {
    let official = Official::bol();
    let good = json!({"name": "page", "reason": "it is 0"});
    official.check("Violation", &good);
    let validator = official.validator("Violation");
    for bad in [
        json!({"name": "page"}),
        json!({"name": 1, "reason": "it is 0"}),
        json!({"name": "page", "reason": "it is 0", "raeson": "a typo"}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

impl Official {
    /// The error ids that the file documents at a place.
    pub fn error_ids(&self, place: &str) -> Vec<String> {
        let errors = self.0.pointer(place).and_then(Value::as_object).expect("documented errors");
        errors.keys().cloned().collect()
    }
}
