//! Whether an object already is as it should be.

use aws_lc_rs::digest;
use marketrelay_api::quantity::quantity;
use serde_json::Value;

/// Hex SHA-256.
pub fn hash(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether everything in `desired` is in `live`. What the API server or others added beside it doesn't count; lists
/// must have the same length and order. Quantities are compared by value, since the API server rewrites them.
pub fn holds(desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            desired.iter().all(|(key, value)| match live.get(key) {
                Some(live) => holds(value, live),
                None => is_empty(value),
            })
        }
        (Value::Array(desired), Value::Array(live)) => {
            desired.len() == live.len()
                && desired.iter().zip(live).all(|(desired, live)| holds(desired, live))
        }
        (Value::String(desired), Value::String(live)) => desired == live || same_quantity(desired, live),
        _ => desired == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

fn same_quantity(a: &str, b: &str) -> bool {
    matches!((quantity(a), quantity(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn additions_by_others_are_no_difference_and_everything_else_is() {
        let desired = json!({"spec": {"ports": [{"port": 1}], "cpu": "0.5", "labels": {}}});
        for (live, same) in [
            (
                json!({"spec": {"ports": [{"port": 1, "protocol": "TCP"}], "cpu": "500m", "x": 1}, "status": {}}),
                true,
            ),
            (json!({"spec": {"ports": [{"port": 2}], "cpu": "500m"}}), false),
            (json!({"spec": {"ports": [{"port": 1}, {"port": 2}], "cpu": "500m"}}), false),
            (json!({"spec": {"ports": [{"port": 1}], "cpu": "501m"}}), false),
            (json!({"spec": {"ports": [{"port": 1}]}}), false),
        ] {
            assert_eq!(holds(&desired, &live), same, "{live}");
        }
    }
}
