//! Sellers and customers that come while the sandbox runs: each test brings its own.

use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;

use crate::{Account, Customer, customer::Inbox, state::Shared};

/// A seller. Its client id must be new.
pub(crate) async fn account(State(shared): State<Shared>, Json(account): Json<Account>) -> StatusCode {
    let mut state = shared.lock();
    if state.accounts.iter().any(|seller| seller.account.client_id == account.client_id) {
        return StatusCode::CONFLICT;
    }
    state.open_account(&account, Timestamp::now());
    StatusCode::CREATED
}

/// A customer with an endpoint. Its name must be new.
pub(crate) async fn customer(State(shared): State<Shared>, Json(customer): Json<Customer>) -> StatusCode {
    let mut state = shared.lock();
    if state.customers.contains_key(&customer.name) {
        return StatusCode::CONFLICT;
    }
    state.customers.insert(customer.name, Inbox::new(&customer.secrets));
    StatusCode::CREATED
}
