//! eBay's account deletion notices: what their receiver is configured with, where its pod finds what is mounted, and what it
//! hands to the operator.

use std::fmt;

use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu, ensure};
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::relay::{Egress, MarketplaceEndpoints};

/// The name of the Secret with the receiver's certificate, and of its Deployment and Service, in the operator's namespace.
pub const NAME: &str = "marketrelay-ebay-notices";
/// The configuration file, from the ConfigMap's entry `notices.yaml`.
pub const CONFIG: &str = "/etc/marketrelay/config/notices.yaml";
/// The Secret with `clientId`, `clientSecret` and `verificationToken` of the eBay application.
pub const APPLICATION: &str = "/etc/marketrelay/application";
/// The certificate by which the operator knows the receiver: `tls.crt`, `tls.key`, `ca.crt`.
pub const IDENTITY: &str = "/etc/marketrelay/identity";
/// The certificate that eBay, or the Ingress before it, is shown: `tls.crt`, `tls.key`.
pub const TLS: &str = "/etc/marketrelay/tls";
/// The URI in the receiver's client certificate; the operator takes notices from it alone.
pub const ROLE: &str = "urn:marketrelay:role:notices";
/// Where the operator takes an [`EbayNotice`]: `POST`, answered with 204 once it has become erasure requests.
pub const HAND_OVER: &str = "/v1/notices/ebay";
/// Paths that the receiver answers itself.
const OWN_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The receiver's configuration file, written by the chart from its values. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoticesConfig {
    /// The URL that is registered at eBay, to the letter: eBay's challenge is answered with a digest over it.
    pub endpoint: String,
    /// The operator's port, such as `https://marketrelay-operator.marketrelay-system.svc:9443/`.
    pub operator: Url,
    /// eBay's, instead of the official ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<MarketplaceEndpoints>,
    /// What may be connected to beside the public internet.
    #[serde(default)]
    pub egress: Egress,
}

/// The configuration can't be used.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NoticesConfigError {
    #[snafu(display("the configuration can't be read: {source}"))]
    Parse { source: serde_yaml::Error },
    #[snafu(display("{field} {problem}"))]
    Value { field: &'static str, problem: &'static str },
}

impl NoticesConfig {
    /// Reads and checks the file's text.
    pub fn parse(text: &str) -> Result<Self, NoticesConfigError> {
        let config: Self = serde_yaml::from_str(text).context(ParseSnafu)?;
        let Ok(endpoint) = Url::parse(&config.endpoint) else {
            return ValueSnafu { field: "endpoint", problem: "is not a URL" }.fail();
        };
        let mut urls = vec![("endpoint", &endpoint), ("operator", &config.operator)];
        if let Some(MarketplaceEndpoints { api, token }) = &config.endpoints {
            urls.extend([("endpoints.api", api), ("endpoints.token", token)]);
        }
        for (field, url) in urls {
            ensure!(url.scheme() == "https", ValueSnafu { field, problem: "must begin with https://" });
        }
        let free = !OWN_PATHS.contains(&endpoint.path());
        ensure!(
            free,
            ValueSnafu {
                field: "endpoint",
                problem: "has a path that is taken: /livez, /readyz or /metrics"
            }
        );
        let plain = endpoint.query().is_none() && endpoint.fragment().is_none();
        ensure!(plain, ValueSnafu { field: "endpoint", problem: "must have no ? and no #" });
        Ok(config)
    }

    /// The endpoint's path, as requests name it.
    pub fn path(&self) -> String {
        Url::parse(&self.endpoint).map_or_else(|_| "/".to_owned(), |url| url.path().to_owned())
    }
}

/// A notice whose signature holds: somebody closed their eBay account. It names them, so it is wiped when it is dropped, and
/// isn't shown.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EbayNotice {
    /// eBay's id of the notice; the same in each repetition.
    pub notification_id: String,
    /// What orders can name the buyer by: the user name and the immutable user id; at least one.
    pub buyers: Vec<String>,
}

impl fmt::Debug for EbayNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EbayNotice(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATOR: &str = "https://marketrelay-operator.marketrelay-system.svc:9443/";

    #[test]
    fn mistakes_are_named() {
        let good = format!("endpoint: https://a.example/ebay\noperator: {OPERATOR}");
        assert!(NoticesConfig::parse(&good).is_ok());
        for (text, part) in [
            (format!("endpoint: http://a.example/ebay\noperator: {OPERATOR}"), "endpoint must begin"),
            (format!("endpoint: https://a.example/livez\noperator: {OPERATOR}"), "is taken"),
            (format!("endpoint: https://a.example/?a=b\noperator: {OPERATOR}"), "no ?"),
            (format!("endpont: https://a.example/ebay\noperator: {OPERATOR}"), "endpont"),
            (format!("endpoint: a.example\noperator: {OPERATOR}"), "not a URL"),
            ("endpoint: https://a.example/ebay".to_owned(), "operator"),
        ] {
            let error = NoticesConfig::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn whom_a_notice_names_is_not_shown() {
        let notice = EbayNotice { notification_id: "n".to_owned(), buyers: vec!["zoe".to_owned()] };
        assert!(!format!("{notice:?}").contains("zoe"));
    }
}
