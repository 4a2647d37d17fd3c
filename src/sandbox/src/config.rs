use serde::{Deserialize, Serialize};

/// What the sandbox simulates; its configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Bearer token (or `?token=`) of the control API.
    pub control_token: String,
    /// Sellers at the marketplaces.
    pub accounts: Vec<Account>,
    /// Customers with an endpoint for orders.
    pub customers: Vec<Customer>,
    /// Amazon's `searchOrders` calls per second and burst; documented: 0.0056 and 20. The other limits of Amazon and
    /// Bol.com are as many times their documented figures as this rate is of its own, and never less than they.
    #[serde(default = "documented_rate")]
    pub amazon_rate: (f64, f64),
}

fn documented_rate() -> (f64, f64) {
    crate::limits::SEARCH
}

/// One of the simulated marketplaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marketplace {
    /// Selling Partner API, Orders 2026-01-01.
    Amazon,
    /// Fulfillment API v1.
    Ebay,
    /// Retailer API v10.
    Bol,
}

/// A seller; its credentials decide whose orders an answer holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Where.
    pub marketplace: Marketplace,
    /// OAuth client.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: String,
    /// Amazon and eBay.
    #[serde(default)]
    pub refresh_token: String,
    /// Same seed, same orders.
    #[serde(default)]
    pub seed: u64,
    /// Orders at the start.
    #[serde(default)]
    pub initial_orders: u32,
    /// Seconds between new orders; 0: none on their own. Older ones ship, are cancelled or refunded as time goes by.
    #[serde(default)]
    pub growth_seconds: u64,
}

/// A customer's system.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Customer {
    /// In the path `/customers/NAME/orders`.
    pub name: String,
    /// Accepted signing secrets, `whsec_…`.
    pub secrets: Vec<String>,
}
