use marketrelay_sandbox::Marketplace::{self, Amazon, Bol, Ebay};
use serde_json::{Value, json};

use crate::{
    amazon, bol, ebay,
    official::{Official, check_token_error},
    sandbox::{Answer, Tried, account},
};

const ALL: [(Marketplace, &str, &str); 3] = [
    (Amazon, "amazon", amazon::SEARCH),
    (Ebay, "ebay", "/sell/fulfillment/v1/order?filter=lastmodifieddate:%5B2026-01-01T00:00:00Z..%5D"),
    (Bol, "bol", "/retailer/orders?status=ALL"),
];

async fn all() -> Tried {
    Tried::start([Amazon, Ebay, Bol].map(|one| account(one, 60)).to_vec(), (1000.0, 1000.0)).await
}

async fn token(sandbox: &Tried, marketplace: Marketplace) -> String {
    match marketplace {
        Amazon => amazon::token(sandbox).await,
        Ebay => ebay::token(sandbox).await,
        Bol => bol::token(sandbox).await,
    }
}

fn check_error(marketplace: Marketplace, answer: &Answer) {
    match marketplace {
        Amazon => Official::amazon().check("ErrorList", &answer.body),
        Ebay => Official::ebay().check("Error", &answer.body["errors"][0]),
        Bol => Official::bol().check("Problem", &answer.body),
    }
}

#[tokio::test]
async fn a_fault_s_answer_follows_the_official_description() {
    let sandbox = all().await;
    for (marketplace, target, path) in ALL {
        let token = token(&sandbox, marketplace).await;
        for status in [400, 401, 403, 404, 429, 500, 503] {
            sandbox.fail(target, json!({"kind": "status", "status": status, "retryAfter": 9})).await;
            let answer = sandbox.get(marketplace, &token, path).await;
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (status, Some("9")));
            check_error(marketplace, &answer);
        }
        sandbox.fail(target, json!({"kind": "status", "status": 500})).await;
        let answer = sandbox.token(marketplace, &[]).await;
        check_token_error(&answer.body);
        assert!(sandbox.get(marketplace, &token, path).await.status.is_success());
    }
}

#[tokio::test]
async fn a_repeated_page_shows_what_the_page_before_has_shown() {
    let sandbox = all().await;
    for (marketplace, target, path) in ALL {
        let token = token(&sandbox, marketplace).await;
        let first = sandbox.get(marketplace, &token, path).await;
        sandbox.fail(target, json!({"kind": "repeatPage"})).await;
        let detail = format!("{}/{}", path.split('?').next().expect("a path"), first.numbers()[0]);
        assert_ne!(sandbox.get(marketplace, &token, &detail).await.body, first.body, "only listings repeat");
        let other = match marketplace {
            Amazon => format!("{path}&maxResultsPerPage=3"),
            Ebay => format!("{path}&offset=50"),
            Bol => format!("{path}&page=2"),
        };
        let repeated = sandbox.get(marketplace, &token, &other).await;
        assert_eq!(repeated.body, first.body);
        assert_ne!(sandbox.get(marketplace, &token, &other).await.body, first.body);
    }
}

#[tokio::test]
async fn a_page_out_of_order_shows_the_same_orders() {
    let sandbox = all().await;
    for (marketplace, target, path) in ALL {
        let token = token(&sandbox, marketplace).await;
        let mut numbers = sandbox.get(marketplace, &token, path).await.numbers();
        sandbox.fail(target, json!({"kind": "outOfOrder"})).await;
        let answer = sandbox.get(marketplace, &token, path).await;
        let schema = match marketplace {
            Amazon => (Official::amazon(), "SearchOrdersResponse"),
            Ebay => (Official::ebay(), "OrderSearchPagedCollection"),
            Bol => (Official::bol(), "ReducedOrders"),
        };
        schema.0.check(schema.1, &answer.body);
        assert_ne!(answer.numbers(), numbers);
        numbers.reverse();
        assert_eq!(answer.numbers(), numbers);
    }
}

#[tokio::test]
async fn an_unknown_fault_is_refused() {
    let sandbox = all().await;
    let body: Value = json!({"target": "bol", "fault": {"kind": "earthquake"}});
    assert_eq!(sandbox.try_post("faults", body).await, 422);
}
