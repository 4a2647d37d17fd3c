//! Bol.com's rate limits: the published figures, and those that its rate-limit resource tells.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::wire::{RateLimit, RateLimits};
use crate::{limits::Limit, session::Session};

/// The limits may change at any time; they are read again after this.
const VALID: SignedDuration = SignedDuration::from_hours(1);

pub(crate) struct Limits {
    pub(crate) orders: Limit,
    pub(crate) order: Limit,
    pub(crate) shipments: Limit,
    pub(crate) shipment: Limit,
    read_at: Option<Timestamp>,
}

impl Limits {
    pub(crate) fn published() -> Self {
        let per_minute = |calls: u32| Limit::per_window(calls, Duration::from_mins(1));
        Self {
            orders: per_minute(25),
            order: Limit::per_window(25, Duration::from_secs(1)),
            shipments: per_minute(25),
            shipment: per_minute(50),
            read_at: None,
        }
    }

    /// Reads the resource if it was not read for a while. Without an answer the figures that are known stay.
    pub(crate) async fn refresh(&mut self, session: &Session, now: Timestamp) {
        if self.read_at.is_some_and(|at| now.duration_since(at) < VALID) {
            return;
        }
        self.read_at = Some(now);
        let url = session.url(&["retailer", "public", "ratelimits"], &[]);
        if let Ok(answer) = session.get_public("getRateLimits", url).await
            && let Ok(limits) = answer.parse::<RateLimits>("getRateLimits")
        {
            limits.into_list().iter().for_each(|limit| self.take(limit));
        }
    }

    fn take(&mut self, told: &RateLimit) {
        let unit = match told.time_unit.as_str() {
            "SECONDS" => 1,
            "MINUTES" => 60,
            "HOURS" => 3_600,
            _ => return,
        };
        let limit = match told.path.as_str() {
            "/retailer/orders" => &mut self.orders,
            "/retailer/orders/{order-id}" | "/retailer/orders/{id}" => &mut self.order,
            "/retailer/shipments" => &mut self.shipments,
            "/retailer/shipments/{shipment-id}" | "/retailer/shipments/{id}" => &mut self.shipment,
            _ => return,
        };
        if told.methods.split(',').any(|method| method.trim() == "GET") {
            limit
                .adapt_window(told.max_capacity, Duration::from_secs(unit).saturating_mul(told.time_to_live));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_limits_of_our_calls_replace_the_published_ones() {
        let mut limits = Limits::published();
        let told = |path: &str, methods: &str, unit: &str| RateLimit {
            path: path.to_owned(),
            methods: methods.to_owned(),
            max_capacity: 10,
            time_to_live: 1,
            time_unit: unit.to_owned(),
        };
        limits.take(&told("/retailer/orders", "GET, OPTIONS, HEAD", "MINUTES"));
        limits.take(&told("/retailer/orders/{id}", "PUT", "MINUTES"));
        limits.take(&told("/retailer/shipments", "GET", "FORTNIGHTS"));
        assert_eq!(limits.orders.period(), Duration::from_millis(7_500), "2 at once, 8 spread over a minute");
        assert_eq!(limits.order.period(), Duration::from_millis(50));
        assert_eq!(limits.shipments.period(), Duration::from_secs(3));
    }

    #[test]
    fn both_forms_of_the_resource_are_read() {
        let entry = r#"{"path":"/retailer/orders","methods":"GET","maxCapacity":25,"timeToLive":1,"timeUnit":"MINUTES"}"#;
        for text in [format!("[{entry}]"), format!(r#"{{"rateLimits":[{entry}]}}"#)] {
            let limits: RateLimits = serde_json::from_str(&text).expect("limits");
            assert_eq!(limits.into_list().len(), 1);
        }
    }
}
