//! The control API. The token comes as `Authorization: Bearer` or, since the API server's service proxy strips that
//! header, as `?token=`.
//!
//! | `/control/…` | |
//! |---|---|
//! | `accounts` | the sellers, with their numbers of orders; POST an account as in the configuration adds one |
//! | `customers` | POST a customer as in the configuration adds one |
//! | `accounts/CLIENT/orders` | the truth about the orders; POST `{count, person?}` adds some |
//! | `accounts/CLIENT/orders/NUMBER` | POST `{state?, oddStatus?}`: ships, cancels, refunds, or a word that nobody knows |
//! | `accounts/CLIENT/credentials` | POST `{clientSecret, refreshToken}` rotates; all tokens end |
//! | `tokens/expire` | POST ends all tokens |
//! | `faults` | POST `{target, fault?, calls?}`, the fault by its `kind`: `status`, `timeout`, `halfBody`, `invalidJson`, `repeatPage`, `outOfOrder` |
//! | `ebay/challenge` | POST `{url, ca, verificationToken}`: eBay's challenge of an endpoint; tells whether the answer is right |
//! | `ebay/key` | the id of the key that notices are signed with |
//! | `ebay/notices` | POST `{url, ca, username, userId, notificationId?, forgery?}`: a signed notice that an account was deleted, or a forged one: `changedBody`, `unknownKey`, `noSignature`, `otherTopic`; tells how it was answered |
//! | `calls` | calls so far, by target |
//! | `customers/NAME` | what arrived, in numbers, in all and by connection |
//! | `customers/NAME/events?offset=&limit=` | the events with their connection, revision and order |
//! | `customers/NAME/numbers?connectionId=` | how often each order number arrived |
//! | `customers/NAME/screen` | the latest orders as a table |
//! | `customers/NAME/secrets` | POST a list: the signing secrets that are accepted |

use std::{collections::HashMap, fmt::Write};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    faults::Kind,
    newcomers, notices,
    order::{Order, Person, State as OrderState},
    state::{Seller, Shared},
};

pub(crate) fn routes(shared: &Shared) -> Router<Shared> {
    Router::new()
        .route("/control/accounts", get(accounts).post(newcomers::account))
        .route("/control/customers", post(newcomers::customer))
        .route("/control/accounts/{client}/orders", get(orders).post(add))
        .route("/control/accounts/{client}/orders/{number}", post(change))
        .route("/control/accounts/{client}/credentials", post(credentials))
        .route("/control/tokens/expire", post(expire))
        .route("/control/faults", post(fault))
        .route("/control/ebay/challenge", post(notices::challenge))
        .route("/control/ebay/key", get(notices::key))
        .route("/control/ebay/notices", post(notices::send))
        .route("/control/calls", get(calls))
        .route("/control/customers/{name}", get(summary))
        .route("/control/customers/{name}/events", get(events))
        .route("/control/customers/{name}/numbers", get(numbers))
        .route("/control/customers/{name}/screen", get(screen))
        .route("/control/customers/{name}/secrets", post(secrets))
        .layer(from_fn_with_state(shared.clone(), authorize))
}

async fn authorize(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let query = request.uri().query().unwrap_or_default();
    let given = bearer.or_else(|| query.split('&').find_map(|pair| pair.strip_prefix("token=")));
    if given == Some(&shared.control_token) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, "the control token is missing or wrong").into_response()
    }
}

fn with_seller(shared: &Shared, client: &str, act: impl FnOnce(&mut Seller) -> Value) -> Response {
    let mut state = shared.lock();
    match state.accounts.iter_mut().find(|seller| seller.account.client_id == client) {
        Some(seller) => {
            seller.grow(Timestamp::now());
            Json(act(seller)).into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such account").into_response(),
    }
}

fn truth(order: &Order) -> Value {
    json!({"number": order.number, "state": order.state, "placedAt": order.placed, "shippedAt": order.shipped,
           "username": order.username()})
}

async fn accounts(State(shared): State<Shared>) -> Json<Value> {
    let state = shared.lock();
    let list = state.accounts.iter().map(|seller| {
        json!({"clientId": seller.account.client_id, "marketplace": seller.account.marketplace, "orders": seller.orders.len()})
    });
    Json(list.collect())
}

async fn orders(State(shared): State<Shared>, Path(client): Path<String>) -> Response {
    with_seller(&shared, &client, |seller| seller.orders.iter().map(truth).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    count: u32,
    #[serde(default)]
    person: Option<Person>,
}

async fn add(State(shared): State<Shared>, Path(client): Path<String>, Json(add): Json<Add>) -> Response {
    with_seller(&shared, &client, |seller| {
        let placed = Timestamp::now();
        let added = (0..add.count).map(|_| {
            let order = seller.add(placed);
            if let Some(person) = &add.person {
                order.person = person.clone();
            }
            truth(order)
        });
        added.collect()
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    #[serde(default)]
    state: Option<OrderState>,
    #[serde(default)]
    odd_status: Option<String>,
}

async fn change(
    State(shared): State<Shared>,
    Path((client, number)): Path<(String, String)>,
    Json(change): Json<Change>,
) -> Response {
    with_seller(&shared, &client, |seller| {
        let Some(order) = seller.orders.iter_mut().find(|order| order.number == number) else {
            return Value::Null;
        };
        order.decide(change.state.unwrap_or(order.state), Timestamp::now());
        order.odd_status = change.odd_status;
        truth(order)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewCredentials {
    client_secret: String,
    #[serde(default)]
    refresh_token: String,
}

async fn credentials(
    State(shared): State<Shared>,
    Path(client): Path<String>,
    Json(new): Json<NewCredentials>,
) -> Response {
    let response = with_seller(&shared, &client, |seller| {
        seller.account.client_secret = new.client_secret;
        seller.account.refresh_token = new.refresh_token;
        json!({"rotated": true})
    });
    shared.lock().expire_tokens();
    response
}

async fn expire(State(shared): State<Shared>) -> StatusCode {
    shared.lock().expire_tokens();
    StatusCode::NO_CONTENT
}

/// `target`: `amazon`, `ebay`, `bol` or `customer/NAME`; no `fault`: works again; no `calls`: until then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    target: String,
    #[serde(default)]
    fault: Option<Kind>,
    #[serde(default)]
    calls: Option<u32>,
}

async fn fault(State(shared): State<Shared>, Json(fault): Json<Fault>) -> StatusCode {
    let faults = &mut shared.lock().faults;
    match fault.fault {
        Some(kind) => faults.plan(&fault.target, kind, fault.calls),
        None => faults.clear(&fault.target),
    }
    StatusCode::NO_CONTENT
}

async fn calls(State(shared): State<Shared>) -> Json<Value> {
    Json(json!(shared.lock().faults.calls))
}

async fn summary(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let state = shared.lock();
    let Some(inbox) = state.customers.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut body = json!(inbox.summary);
    body["orders"] = json!(inbox.orders());
    body["ordersByConnection"] = json!(inbox.by_connection());
    Json(body).into_response()
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    offset: usize,
    #[serde(default = "page_size")]
    limit: usize,
}

fn page_size() -> usize {
    1000
}

async fn events(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let state = shared.lock();
    let Some(inbox) = state.customers.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let list: Vec<_> = inbox.events.iter().skip(page.offset).take(page.limit).collect();
    let list = list.iter().map(|(id, event)| {
        let mut body = json!(event);
        body["id"] = json!(id);
        body
    });
    Json(list.collect::<Value>()).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    connection_id: Option<String>,
}

/// How often each order number arrived, in whatever revision: of one connection, or of all.
async fn numbers(State(shared): State<Shared>, Path(name): Path<String>, Query(of): Query<Of>) -> Response {
    let state = shared.lock();
    let Some(inbox) = state.customers.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    Json(json!(inbox.numbers(of.connection_id.as_deref()))).into_response()
}

/// Rows of each marketplace on the screen.
const SHOWN: usize = 7;

/// The customer's screen: the latest events of each marketplace.
async fn screen(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let state = shared.lock();
    let Some(inbox) = state.customers.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut events: Vec<_> = inbox.events.iter().collect();
    events.sort_by_key(|(_, event)| std::cmp::Reverse(event.at));
    let mut text = format!(
        "{:<12} {:<22} {:<4} {:<17} {:>14}  {:<8} {:<18} RECEIVED\n",
        "MARKETPLACE", "ORDER", "REV", "STATUS", "TOTAL", "COUNTRY", "EVENT"
    );
    let mut shown = HashMap::new();
    for (id, event) in events {
        let count = shown.entry(event.marketplace.clone()).or_insert(0);
        *count += 1;
        if *count > SHOWN {
            continue;
        }
        let total = amount(&event.order["total"]);
        let country = event.order["country"].as_str().unwrap_or_default();
        let at = event.at.strftime("%H:%M:%S");
        let id = id.get(..16).unwrap_or(id);
        let line = writeln!(
            text,
            "{:<12} {:<22} {:<4} {:<17} {total:>14}  {country:<8} {id:<18} {at}",
            event.marketplace, event.number, event.revision, event.status
        );
        debug_assert!(line.is_ok());
    }
    let summary = &inbox.summary;
    let closing = writeln!(
        text,
        "newest {SHOWN} of each marketplace; in all {} orders in {} events, {} repeated, {} bad signatures",
        inbox.orders(),
        inbox.events.len(),
        summary.repeated_events,
        summary.bad_signatures
    );
    debug_assert!(closing.is_ok());
    text.into_response()
}

/// As people write it; of the sandbox's currencies only the yen has no smaller unit.
fn amount(money: &Value) -> String {
    let (minor, currency) =
        (money["minor"].as_i64().unwrap_or_default(), money["currency"].as_str().unwrap_or_default());
    match currency {
        "JPY" => format!("{minor} {currency}"),
        _ => format!("{}.{:02} {currency}", minor / 100, minor % 100),
    }
}

async fn secrets(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Json(secrets): Json<Vec<String>>,
) -> StatusCode {
    match shared.lock().customers.get_mut(&name) {
        Some(inbox) => {
            inbox.secrets = secrets;
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}
