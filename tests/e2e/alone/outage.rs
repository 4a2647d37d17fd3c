//! A marketplace that fails for minutes: it does so for everybody.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{alone, wait_for},
    tenant::{SOON, with_tenant},
};

#[tokio::test]
async fn a_marketplace_outage_of_minutes_leaves_no_gap() {
    let _alone = alone().await;
    with_tenant("outage", async |tenant| {
        tenant.connect("ebay", 30).await;
        tenant.all_arrived("ebay").await;
        tenant.sandbox.fail("ebay", &json!({"kind": "status", "status": 503}), None).await;
        let began = Instant::now();
        tenant.order("ebay", 40).await;
        let message = tenant.condition("ebay", "Collecting", "False", Some("MarketplaceUnavailable")).await;
        assert!(message.contains("503"), "{message}");
        tenant.condition("ebay", "Ready", "False", Some("MarketplaceUnavailable")).await;
        assert!(began.elapsed() > Duration::from_mins(1), "a short outage is no transition");
        tenant.order("ebay", 40).await;
        tenant.sandbox.fail("ebay", &json!({"kind": "halfBody"}), Some(1)).await;
        // The relay asks again every minute by now.
        wait_for("Collecting again", 2 * SOON, async || {
            let status = tenant.get("ebay").await?.status.ok_or("no status")?;
            let collecting = status.conditions.into_iter().find(|condition| condition.type_ == "Collecting");
            let collecting = collecting.ok_or("no condition")?;
            if collecting.status == "True" { Ok(()) } else { Err(collecting.message) }
        })
        .await;
        tenant.all_arrived("ebay").await;
        tenant.ready("ebay").await;
        assert_eq!(tenant.summary().await["orders"], 110);
    })
    .await;
}
