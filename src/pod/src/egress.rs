//! Which addresses we connect to: host names are beyond a NetworkPolicy, so every resolved address is checked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use snafu::Snafu;
use url::{Host, Url};

/// An address that we don't connect to.
#[derive(Debug, Snafu)]
#[snafu(display(
    "the address is private, link-local or otherwise not on the public internet: list its network in the operator's egress.allowedNetworks if it is meant"
))]
pub struct Refused;

/// The allow-list.
#[derive(Clone, Debug)]
pub struct Egress(Arc<[IpNet]>);

impl Egress {
    /// Public addresses, and these networks.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self(allowed.into())
    }

    fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }

    /// A URL's host that is written as an address never reaches the resolver.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        if literal.is_none_or(|address| self.allows(address)) { Ok(()) } else { RefusedSnafu.fail() }
    }
}

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found.into_iter().filter(|address| egress.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// By the IANA registries of special-purpose addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99);
    !special
}

/// Global unicast without its special parts; addresses that carry an IPv4 address (NAT64, 6to4, Teredo) are among them.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = a & 0xe000 == 0x2000;
    let special = (a == 0x2001 && b < 0x0200)
        || (a, b) == (0x2001, 0x0db8)
        || a == 0x2002
        || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_refused_unless_allowed() {
        let egress =
            Egress::new(&["10.1.0.0/16".parse().expect("a network"), "fd00::/8".parse().expect("a network")]);
        for (address, allowed) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1:248:1893:25c8:1946", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("64:ff9b::a01:203", false),
            ("2002:a00:1::", false),
        ] {
            assert_eq!(egress.allows(address.parse().expect(address)), allowed, "{address}");
        }
    }

    #[test]
    fn a_url_with_an_address_is_checked_too() {
        let egress = Egress::new(&[]);
        for (url, allowed) in [
            ("https://10.0.0.1/orders", false),
            ("https://[::1]/orders", false),
            ("https://2130706433/", false),
            ("https://erp.acme.example/orders", true),
            ("https://93.184.216.34/", true),
        ] {
            assert_eq!(egress.check(&url.parse().expect(url)).is_ok(), allowed, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_inside_is_refused() {
        let Err(error) = Egress::new(&[]).resolve("localhost".parse().expect("a name")).await else {
            panic!("localhost was let through");
        };
        assert!(error.to_string().contains("allowedNetworks"), "{error}");
    }
}
