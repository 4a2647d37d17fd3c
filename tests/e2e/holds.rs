//! Promise 15: what the law wants kept outlives its deadline, can be read by who may, and is gone at the hold's end.
//! Durations of minutes, as the demo's values allow.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    cluster::{together, wait_for},
    privacy::{connect, found, person, policy, reduced, shown},
    tenant::{SOON, Tenant, with_tenant},
};

/// From an order's placing to the end of its personal data.
const KEPT: &str = "6m";
/// From the beginning to the hold's end.
const HELD: SignedDuration = SignedDuration::from_mins(11);
const ORDERS: u64 = 5;

fn other_person() -> Value {
    json!({
        "firstName": "Eusebius", "surname": "Wolkenkratzer", "email": "wolkenkratzer.eusebius@buyer.example",
        "street": "Unverwechselbarweg", "houseNumber": "4712", "postalCode": "10115", "city": "Berlin",
        "country": "DE", "phone": "+49 30 99887767",
    })
}

/// What a person with access to the pod is shown.
fn read(tenant: &Tenant) -> Result<Vec<Value>, String> {
    let words = ["exec", "bol-relay-0", "--", "/marketrelay-relay", "held", "--hold", "tax"];
    let lines = tenant.kubectl(&words)?;
    lines.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}

fn metrics_tell(tenant: &Tenant, hold: &str) -> Result<Option<String>, String> {
    let metrics = tenant.metrics("bol")?;
    let line = metrics.lines().find(|line| line.contains(&format!("held_orders{{hold=\"{hold}\"}}")));
    Ok(line.and_then(|line| line.split_whitespace().next_back()).map(str::to_owned))
}

async fn ordered(tenant: &Tenant) -> BTreeSet<String> {
    let path = format!("accounts/{}/orders", tenant.account("bol"));
    for (count, person) in [(ORDERS - 2, person()), (2, other_person())] {
        tenant.sandbox.post(&path, &json!({"count": count, "person": person})).await;
    }
    tenant.all_arrived("bol").await;
    tenant.sandbox.orders(&tenant.account("bol")).await.into_iter().collect()
}

#[tokio::test]
async fn what_is_held_outlives_its_deadline_and_nothing_of_it_is_found_after_the_holds_end() {
    let _company = together().await;
    with_tenant("holds", async |tenant| {
        let now = Timestamp::now();
        let until = Timestamp::from_second((now + HELD).as_second()).expect("in range");
        let day = SignedDuration::from_hours(24);
        let mut policy = policy(KEPT);
        policy["spec"]["holds"] = json!([{
            "name": "tax", "reason": "AO 147, decided by the controller",
            "placed": {"from": seconds(now - day), "to": seconds(now + day)}, "until": until.to_string(),
        }]);
        tenant.apply(&policy);
        connect(&tenant, "bol").await;
        let numbers = ordered(&tenant).await;
        let message = tenant.condition("bol", "Held", "True", Some("Held")).await;
        assert!(message.contains("only copy"), "{message}");
        reduced(&tenant, ORDERS).await;

        let orders = read(&tenant).expect("held orders");
        let text = |order: &Value, path: &str| order.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let kept: BTreeSet<_> = orders.iter().filter_map(|order| text(order, "/number")).collect();
        assert_eq!(kept, numbers);
        let emails = orders.iter().filter_map(|order| text(order, "/shipTo/email")).collect::<BTreeSet<_>>();
        let names = orders.iter().filter(|order| order.to_string().contains("Wolkenkratzer")).count();
        assert_eq!(names, 2, "{emails:?}");
        let log = tenant.kubectl(&["logs", "bol-relay-0"]).expect("a log");
        assert!(log.lines().any(|line| line.contains("HeldOrdersRead") && line.contains("tax")), "{log}");
        assert_eq!(metrics_tell(&tenant, "tax").expect("metrics"), Some(ORDERS.to_string()));
        let mut needles: Vec<_> = [
            "Quastenflosser",
            "quastenflosser",
            "Wolkenkratzer",
            "wolkenkratzer",
            "Unverwechselbarweg",
            "9988776",
        ]
        .map(str::to_owned)
        .into();
        needles.extend(numbers);
        assert_eq!(found(&needles), Vec::<PathBuf>::new(), "what is held is sealed");
        assert_eq!(shown(&tenant, "bol", &needles), Vec::<String>::new());

        let rest = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        wait_for("the hold's key is gone", rest + SOON, async || {
            let template = "--output=go-template={{range $k, $v := .data}}{{$k}} {{end}}";
            let entries = tenant.kubectl(&["get", "secret", "bol-keyring", template])?;
            let hold = entries.split_whitespace().find(|name| name.starts_with("hold."));
            hold.map_or(Ok(()), |name| Err(name.to_owned()))
        })
        .await;
        wait_for("the relay keeps nothing any more", SOON, async || {
            metrics_tell(&tenant, "tax")?.map_or(Ok(()), Err)
        })
        .await;
        let refused = read(&tenant).expect_err("there is nothing to read");
        assert!(refused.contains("no hold"), "{refused}");
        assert_eq!(found(&needles), Vec::<PathBuf>::new());
        assert_eq!(shown(&tenant, "bol", &needles), Vec::<String>::new());
        tenant.condition("bol", "Held", "False", Some("HoldEnded")).await;
        tenant.condition("bol", "RetentionEnforced", "True", None).await;
    })
    .await;
}

/// As the API server takes it.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).expect("in range").to_string()
}
