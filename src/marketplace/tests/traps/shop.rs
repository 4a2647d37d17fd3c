//! A shop at Bol.com.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::server::{Call, Reply, failed, now, ok};

#[derive(Clone)]
pub struct Order {
    pub number: String,
    pub placed: Timestamp,
    pub changed: Timestamp,
    pub shipped: bool,
}

/// A shop with the real one's listings: newest order first, 50 on a page, handled orders for 48 hours.
pub struct Shop {
    pub orders: Vec<Order>,
}

impl Shop {
    pub fn new(orders: usize) -> Self {
        let mut shop = Self { orders: Vec::new() };
        (0..orders).for_each(|_| shop.add(now() - SignedDuration::from_mins(20)));
        shop
    }

    pub fn add(&mut self, placed: Timestamp) {
        let number = format!("A{:04}", self.orders.len());
        self.orders.push(Order { number, placed, changed: placed, shipped: false });
    }

    pub fn numbers(&self) -> Vec<String> {
        self.orders.iter().map(|order| order.number.clone()).collect()
    }

    fn listed(&self, call: &Call) -> Vec<&Order> {
        let minutes = call.query.get("change-interval-minute").map(|_| call.number("change-interval-minute"));
        let inside = |order: &&Order| {
            let age = now().duration_since(order.changed);
            let day = call.query.get("latest-change-date");
            let zone = jiff::tz::TimeZone::get("Europe/Amsterdam").expect("a zone");
            let on = |day: &String| order.changed.to_zoned(zone.clone()).date().to_string() == *day;
            let recent = minutes.is_none_or(|minutes| age.as_mins() < i64::try_from(minutes).expect("few"));
            recent && day.is_none_or(on) && (!order.shipped || age < SignedDuration::from_hours(48))
        };
        self.orders.iter().rev().filter(inside).collect()
    }

    pub fn answer(&self, call: &Call) -> Reply {
        let skip = (call.number("page").max(1) - 1) * 50;
        match call.path.strip_prefix("/retailer/").expect("a path").split_once('/') {
            None if call.path.ends_with("/orders") => {
                let page = self.listed(call).into_iter().skip(skip).take(50).map(reduced);
                ok(json!({"orders": page.collect::<Vec<_>>()}))
            }
            None => {
                let by_order = call.query.get("order-id");
                let wanted = |order: &&Order| order.shipped && by_order.is_none_or(|id| *id == order.number);
                let page = self.orders.iter().rev().filter(wanted).skip(skip).take(50).map(shipment);
                let other = call.query.get("fulfilment-method").is_some_and(|method| method == "FBB");
                ok(json!({"shipments": if other { Vec::new() } else { page.collect() }}))
            }
            Some(("orders", id)) => self.find(id).map_or_else(|| failed(404), |order| ok(full(order))),
            Some(("shipments", id)) => self
                .find(id)
                .map_or_else(|| failed(404), |_| ok(json!({"transport": {"trackAndTrace": "3S"}}))),
            Some(_) => failed(404),
        }
    }

    fn find(&self, number: &str) -> Option<&Order> {
        self.orders.iter().find(|order| order.number == number)
    }
}

pub fn reduced(order: &Order) -> Value {
    let status = if order.shipped { "HANDLED" } else { "OPEN" };
    json!({
        "orderId": order.number, "orderPlacedDateTime": order.placed.to_string(),
        "orderItems": [{"fulfilmentStatus": status, "latestChangedDateTime": order.changed.to_string()}],
    })
}

fn full(order: &Order) -> Value {
    json!({
        "orderId": order.number, "orderPlacedDateTime": order.placed.to_string(), "shipmentDetails": {},
        "orderItems": [{
            "orderItemId": "1", "quantity": 1, "quantityShipped": u8::from(order.shipped), "quantityCancelled": 0,
            "unitPrice": 1.5, "totalPrice": 1.5, "latestChangedDateTime": order.changed.to_string(),
        }],
    })
}

fn shipment(order: &Order) -> Value {
    let (id, at) = (&order.number, order.changed.to_string());
    json!({"shipmentId": id, "shipmentDateTime": at, "order": {"orderId": id}})
}
