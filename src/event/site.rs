//! What the core must know of the place it runs in.

use std::net::IpAddr;

use ipnet::IpNet;

/// Facts about a site that events do not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Networks of proxies and load balancers in front of the API server: their entries in `sourceIPs` are not the client.
    pub trusted_proxies: Vec<IpNet>,
}

impl Site {
    /// Whether the text is an address inside a trusted proxy's network.
    pub fn is_trusted_proxy(&self, address: &str) -> bool {
        if self.trusted_proxies.is_empty() {
            return false;
        }
        address.parse::<IpAddr>().is_ok_and(|ip| self.trusted_proxies.iter().any(|net| net.contains(&ip)))
    }
}
