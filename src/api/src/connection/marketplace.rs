use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MarketplaceConnectionSpec;

/// Settings of an Amazon connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amazon {
    /// The Selling Partner API's region: eu, na or fe. It stays.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("amazon.region can't be changed, an account belongs to a region: make a new connection"))]
    pub region: AmazonRegion,
    /// Amazon's ids of the sites to collect from, such as A1805IZSGTT6HS for amazon.nl; 1 to 50.
    #[schemars(length(min = 1, max = 50), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(id, id.matches('^[A-Z0-9]{10,20}$'))")
        .message("marketplaceIds must be ids as Amazon writes them, such as A1805IZSGTT6HS for amazon.nl: 10 to 20 capital letters and digits"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub marketplace_ids: Vec<String>,
}

/// A region of the Selling Partner API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AmazonRegion {
    /// Europe, Middle East, Africa and India.
    Eu,
    /// North and South America.
    Na,
    /// Far East.
    Fe,
}

impl AmazonRegion {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eu => "eu",
            Self::Na => "na",
            Self::Fe => "fe",
        }
    }
}

/// Settings of an eBay connection: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ebay {}

/// Settings of a Bol connection: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bol {}

/// Which marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MarketplaceKind {
    /// Amazon.
    Amazon,
    /// eBay.
    Ebay,
    /// Bol.com.
    Bol,
}

impl MarketplaceKind {
    /// The entries that its credentials Secret needs.
    pub fn credential_entries(self) -> &'static [&'static str] {
        match self {
            Self::Amazon | Self::Ebay => &["clientId", "clientSecret", "refreshToken"],
            Self::Bol => &["clientId", "clientSecret"],
        }
    }
}

impl fmt::Display for MarketplaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amazon => "amazon",
            Self::Ebay => "ebay",
            Self::Bol => "bol",
        })
    }
}

impl MarketplaceConnectionSpec {
    /// The marketplace that the spec names; `None` if it isn't exactly one.
    pub fn marketplace(&self) -> Option<MarketplaceKind> {
        match (&self.amazon, &self.ebay, &self.bol) {
            (Some(_), None, None) => Some(MarketplaceKind::Amazon),
            (None, Some(_), None) => Some(MarketplaceKind::Ebay),
            (None, None, Some(_)) => Some(MarketplaceKind::Bol),
            _ => None,
        }
    }
}
