//! Whatever a marketplace answers, no parser crashes, and a word that isn't known is kept.

use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value, json};

use super::{amazon, bol, ebay};
use crate::{Cursor, Order, OrderStatus, cursor::State};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "-?[0-9]{1,25}\\.?[0-9]{0,25}".prop_map(Value::from),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z".prop_map(Value::from),
        "[A-Z]{3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("[a-zA-Z]{1,8}", inner), 0..3).prop_map(|pairs| Value::from(Map::from_iter(pairs))),
        ]
    })
}

/// Puts `new` at the `index`th place of a value, or takes the place out.
fn change(value: &mut Value, index: &mut usize, new: &Value) -> bool {
    if *index == 0 {
        *value = new.clone();
        return true;
    }
    *index -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| change(item, index, new)),
        Value::Object(fields) => fields.iter_mut().any(|(_, field)| change(field, index, new)),
        _ => false,
    }
}

fn changed(mut value: Value, places: &[(usize, Value)]) -> Value {
    for (place, new) in places {
        change(&mut value, &mut place.clone(), new);
    }
    value
}

fn kept(order: Result<Order, String>, word: &str) {
    let order = order.expect("an order");
    assert_eq!((order.status, order.marketplace_status.as_str()), (OrderStatus::Unknown, word));
}

proptest! {
    #[test]
    fn no_answer_is_a_crash(places in vec((0_usize..250, any_json()), 1..6)) {
        let _ = amazon::convert_value(&changed(amazon::examples().remove(0), &places));
        let _ = ebay::convert_value(&changed(ebay::example(), &places));
        let (listed, details) = bol::examples();
        let _ = bol::convert_values(&changed(listed, &places), &changed(details, &places));
    }

    #[test]
    fn no_stored_cursor_is_a_crash(cursor in any_json(), at in any_json()) {
        for cursor in [cursor, json!({"version": 1, "watermark": at, "position": null})] {
            let _ = State::<Value>::read(&Cursor(cursor.clone()));
            let _ = State::<u32>::read(&Cursor(cursor));
        }
    }

    #[test]
    fn a_word_that_isn_t_known_is_kept(word in "[A-Z]{1,12}_NEW") {
        let mut order = amazon::examples().remove(0);
        order["fulfillment"]["fulfillmentStatus"] = json!(word);
        kept(amazon::convert_value(&order), &word);
        let mut order = ebay::example();
        order["orderFulfillmentStatus"] = json!(word);
        kept(ebay::convert_value(&order), &word);
        let (mut listed, details) = bol::examples();
        listed["orderItems"][0]["fulfilmentStatus"] = json!(word);
        kept(bol::convert_values(&listed, &details), &word);
    }
}
