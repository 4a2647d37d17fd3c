//! A new relay image rolls in waves and halts where a relay that worked fails on it.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use serde_json::{Value, json};
use xtask::run::output;

use crate::{
    cluster::{SYSTEM, alone, kube, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

/// Values of the chart's installation as they are now.
fn values() -> Value {
    let words = ["get", "values", "marketrelay", "--namespace", SYSTEM, "--output=json"];
    serde_json::from_str(&output(&mut kube().helm(&words)).expect("values")).expect("JSON")
}

fn mend(tag: &str) {
    upgrade(&format!("relay.image.tag={tag},rollout.maxUpdating=5,rollout.haltAfterSeconds=300"));
}

fn upgrade(values: &str) {
    let chart = xtask::paths::checkout().join("charts/marketrelay").display().to_string();
    let words = [
        "upgrade",
        "marketrelay",
        &chart,
        "--namespace",
        SYSTEM,
        "--reuse-values",
        "--wait",
        "--timeout=180s",
        "--set",
        values,
    ];
    output(&mut kube().helm(&words)).expect("upgraded");
}

#[tokio::test]
async fn a_broken_image_halts_at_the_first_relay_and_the_others_go_on() {
    let _alone = alone().await;
    let tag = values()["relay"]["image"]["tag"].as_str().expect("a tag").to_owned();
    let test = {
        let tag = tag.clone();
        async move |tenant| waves(tenant, &tag).await
    };
    let outcome = AssertUnwindSafe(with_tenant("waves", test)).catch_unwind().await;
    mend(&tag);
    outcome.unwrap_or_else(|failed| resume_unwind(failed));
}

async fn waves(tenant: Tenant, tag: &str) {
    for marketplace in ["ebay", "bol"] {
        tenant.connect(marketplace, 3).await;
    }
    upgrade("relay.image.tag=broken,rollout.maxUpdating=1,rollout.haltAfterSeconds=20");
    let names = ["ebay", "bol"];
    let halted = wait_for("one fails, the other is held back", 2 * SOON, async || {
        let mut reasons = Vec::new();
        for name in names {
            let status = tenant.get(name).await?.status.ok_or("no status")?;
            let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
            reasons.push(ready.map(|ready| (ready.status, ready.reason)).unwrap_or_default());
        }
        let at = |reason: &str| reasons.iter().position(|(_, found)| found == reason);
        match (at("ImageNotPullable"), at("RolloutHalted")) {
            (Some(_), Some(halted)) => Ok(names[halted]),
            _ => Err(format!("{reasons:?}")),
        }
    })
    .await;
    tenant.order(halted, 4).await;
    tenant.all_arrived(halted).await;
    let path = format!("{halted}-relay");
    let image = tenant.kubectl(&[
        "get",
        "statefulset",
        &path,
        "--output=jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    assert!(image.expect("an image").ends_with(&format!("relay:{tag}")));
    mend(tag);
    for name in names {
        tenant.ready(name).await;
        tenant.all_arrived(name).await;
    }
    assert_eq!(tenant.summary().await["orders"], json!(10));
}
