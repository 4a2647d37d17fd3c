//! Retailer API v10.

use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{authorization, basic};
use crate::{
    Marketplace,
    order::{Order, State as OrderState},
    state::Shared,
};

const MEDIA_TYPE: &str = "application/vnd.retailer.v10+json";
const PROBLEM: &str = "application/vnd.retailer.v10+json";
const PAGE: usize = 50;
const TOKEN_SECONDS: i64 = 299;
/// Handled orders are listed this long.
const HANDLED: SignedDuration = SignedDuration::from_hours(48);

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/token", post(token))
        .route("/retailer/orders", get(list))
        .route("/retailer/orders/{id}", get(order))
        .route("/retailer/shipments", get(shipments))
        .route("/retailer/shipments/{id}", get(shipment))
}

#[derive(Deserialize)]
struct Grant {
    grant_type: String,
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(grant): Form<Grant>) -> Response {
    let mut state = shared.lock();
    let account = basic(&headers).and_then(|(id, secret)| state.find_account(Marketplace::Bol, &id, &secret));
    match account {
        Some(account) if grant.grant_type == "client_credentials" => {
            let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
            let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS, "scope": "RETAILER"});
            super::json(StatusCode::OK, "application/json", &body)
        }
        _ => super::json(StatusCode::UNAUTHORIZED, "application/json", &json!({"error": "invalid_client"})),
    }
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({
        "type": "https://api.bol.com/problems", "title": title, "status": status.as_u16(), "detail": detail,
        "host": "sandbox", "instance": "https://api.bol.com/retailer",
    });
    super::json(status, PROBLEM, &body)
}

/// The seller's orders, or the answer to a request without a good token or media type.
fn orders(shared: &Shared, headers: &HeaderMap) -> Result<Vec<Order>, Box<Response>> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept != MEDIA_TYPE {
        let detail = format!("The Accept header must be {MEDIA_TYPE}");
        return Err(Box::new(problem(StatusCode::NOT_ACCEPTABLE, "Not Acceptable", &detail)));
    }
    let token = authorization(headers, "Bearer ").unwrap_or_default();
    let mut state = shared.lock();
    let seller = state.by_token(token, Marketplace::Bol, Timestamp::now());
    seller.map(|seller| seller.orders.clone()).ok_or_else(|| {
        Box::new(problem(
            StatusCode::UNAUTHORIZED,
            "Unauthorized Request",
            "The access token is expired or invalid",
        ))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListQuery {
    page: Option<usize>,
    status: Option<String>,
    change_interval_minute: Option<i64>,
    latest_change_date: Option<String>,
}

async fn list(State(shared): State<Shared>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let mut orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let now = Timestamp::now();
    if query.change_interval_minute.is_some_and(|minutes| !(1..=60).contains(&minutes)) {
        return problem(
            StatusCode::BAD_REQUEST,
            "Bad Request",
            "change-interval-minute must be between 1 and 60",
        );
    }
    let status = query.status.as_deref().unwrap_or("OPEN");
    orders.retain(|order| {
        let open = matches!(order.state, OrderState::New | OrderState::PartiallyShipped);
        let wanted = match status {
            "OPEN" => open,
            "SHIPPED" => !open && order.state != OrderState::Cancelled,
            _ => true,
        };
        let listed = open || now.duration_since(order.updated) < HANDLED;
        let recent = query
            .change_interval_minute
            .is_none_or(|minutes| now.duration_since(order.updated) <= SignedDuration::from_mins(minutes));
        let day = query.latest_change_date.as_ref().is_none_or(|day| *day == amsterdam(order.updated)[..10]);
        wanted && listed && recent && day
    });
    orders.sort_by_key(|order| std::cmp::Reverse((order.placed, order.number.clone())));
    let skip = (query.page.unwrap_or(1).max(1) - 1) * PAGE;
    let page: Vec<_> = orders.iter().skip(skip).take(PAGE).map(reduced).collect();
    super::json(StatusCode::OK, MEDIA_TYPE, &json!({"orders": page}))
}

async fn order(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match orders(&shared, &headers) {
        Err(response) => *response,
        Ok(orders) => match orders.iter().find(|order| order.number == id) {
            Some(order) => super::json(StatusCode::OK, MEDIA_TYPE, &full(order)),
            None => problem(StatusCode::NOT_FOUND, "Not Found", "Order not found"),
        },
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ShipmentsQuery {
    page: Option<usize>,
    order_id: Option<String>,
}

async fn shipments(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<ShipmentsQuery>,
) -> Response {
    let mut orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    orders.retain(|order| {
        order.shipped.is_some() && query.order_id.as_ref().is_none_or(|id| *id == order.number)
    });
    let skip = (query.page.unwrap_or(1).max(1) - 1) * PAGE;
    let page: Vec<_> = orders.iter().skip(skip).take(PAGE).map(|order| shipment_of(order, false)).collect();
    super::json(StatusCode::OK, MEDIA_TYPE, &json!({"shipments": page}))
}

async fn shipment(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match orders(&shared, &headers) {
        Err(response) => *response,
        Ok(orders) => match orders.iter().find(|order| order.shipped.is_some() && shipment_id(order) == id) {
            Some(order) => super::json(StatusCode::OK, MEDIA_TYPE, &shipment_of(order, true)),
            None => problem(StatusCode::NOT_FOUND, "Not Found", "Shipment not found"),
        },
    }
}

/// Bol.com writes local time with its offset.
fn amsterdam(at: Timestamp) -> String {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1)));
    at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn reduced(order: &Order) -> Value {
    let handled = !matches!(order.state, OrderState::New | OrderState::PartiallyShipped);
    let status =
        order.odd_status.clone().unwrap_or_else(|| if handled { "HANDLED" } else { "OPEN" }.to_owned());
    let items: Vec<_> = (0..order.lines.len())
        .map(|n| {
            let line = &order.lines[n];
            json!({
                "orderItemId": line.id, "ean": line.product, "fulfilmentMethod": "FBR", "fulfilmentStatus": status,
                "quantity": line.quantity, "quantityShipped": order.quantity_shipped(n),
                "quantityCancelled": order.quantity_cancelled(n), "cancellationRequest": false,
                "latestChangedDateTime": amsterdam(order.updated),
            })
        })
        .collect();
    json!({"orderId": order.number, "orderPlacedDateTime": amsterdam(order.placed), "orderItems": items})
}

fn address(order: &Order) -> Value {
    let person = &order.person;
    json!({
        "salutation": "UNKNOWN", "firstName": person.first_name, "surname": person.surname,
        "streetName": person.street, "houseNumber": person.house_number, "zipCode": person.postal_code,
        "city": person.city, "countryCode": person.country, "email": person.email,
    })
}

fn full(order: &Order) -> Value {
    let mut delivery = address(order);
    delivery["deliveryPhoneNumber"] = json!(order.person.phone);
    delivery["language"] = json!("nl");
    let items: Vec<_> = (0..order.lines.len())
        .map(|n| {
            let line = &order.lines[n];
            #[expect(clippy::cast_precision_loss, reason = "prices of the simulator are small")]
            let (price, total) =
                (line.unit_price as f64 / 100.0, (line.unit_price * i64::from(line.quantity)) as f64 / 100.0);
            json!({
                "orderItemId": line.id, "cancellationRequest": false,
                "fulfilment": {"method": "FBR", "distributionParty": "RETAILER", "timeFrameType": "REGULAR"},
                "offer": {"offerId": "6ff736b5-cdd0-4150-8c67-78269ee986f5", "reference": line.sku},
                "product": {"ean": line.product, "title": line.title},
                "quantity": line.quantity, "quantityShipped": order.quantity_shipped(n),
                "quantityCancelled": order.quantity_cancelled(n), "unitPrice": price, "totalPrice": total,
                "discounts": [], "commission": 1.25, "additionalServices": [],
                "latestChangedDateTime": amsterdam(order.updated),
            })
        })
        .collect();
    json!({
        "orderId": order.number, "pickupPoint": false, "orderPlacedDateTime": amsterdam(order.placed),
        "shipmentDetails": delivery, "billingDetails": address(order), "orderItems": items,
    })
}

fn shipment_id(order: &Order) -> String {
    format!("9{}", order.number.trim_start_matches('A'))
}

fn shipment_of(order: &Order, detail: bool) -> Value {
    let transport_id = format!("8{}", order.number.trim_start_matches('A'));
    let mut shipment = json!({
        "shipmentId": shipment_id(order), "shipmentDateTime": order.shipped.map(amsterdam), "shipmentReference": "",
        "order": {"orderId": order.number, "orderPlacedDateTime": amsterdam(order.placed)},
        "transport": {"transportId": transport_id},
    });
    let items = order.lines.iter().enumerate().filter(|(n, _)| order.quantity_shipped(*n) > 0);
    if detail {
        shipment["transport"] = json!({"transportId": transport_id, "transporterCode": "TNT", "trackAndTrace": format!("3SSANDBOX{transport_id}")});
        let items = items.map(|(n, line)| {
            json!({
                "orderItemId": line.id, "fulfilment": {"method": "FBR", "distributionParty": "RETAILER"},
                "offer": {"offerId": "6ff736b5-cdd0-4150-8c67-78269ee986f5", "reference": line.sku},
                "product": {"ean": line.product, "title": line.title}, "quantity": line.quantity,
                "quantityShipped": order.quantity_shipped(n), "unitPrice": 1.0, "commission": 1.0,
            })
        });
        shipment["shipmentItems"] = items.collect();
    } else {
        shipment["shipmentItems"] =
            items.map(|(_, line)| json!({"orderItemId": line.id, "ean": line.product})).collect();
    }
    shipment
}
