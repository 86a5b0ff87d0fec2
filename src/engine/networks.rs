//! Sets of networks, as ranges of addresses that are searched and not tried one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that a test names.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl Networks {
    pub(super) fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network(), net.broadcast())),
                IpNet::V6(net) => v6.push((net.network(), net.broadcast())),
            }
        }
        Networks { v4: disjoint(v4), v6: disjoint(v6) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the text is an address in one of them. An IPv4 address is in no IPv6 network, however it is written.
    pub(super) fn hold(&self, text: &str) -> bool {
        match text.parse() {
            Ok(IpAddr::V4(ip)) => is_in(&self.v4, &ip),
            Ok(IpAddr::V6(ip)) => is_in(&self.v6, &ip),
            Err(_) => false,
        }
    }
}

/// The same addresses as ranges in order that do not overlap. Networks nest or are disjoint, so the one that starts first,
/// and is the larger of those, holds all that start inside it.
fn disjoint<A: Ord + Copy>(mut ranges: Vec<(A, A)>) -> Vec<(A, A)> {
    ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut kept: Vec<(A, A)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if kept.last().is_none_or(|last| range.0 > last.1) {
            kept.push(range);
        }
    }
    kept
}

fn is_in<A: Ord>(ranges: &[(A, A)], ip: &A) -> bool {
    let behind = ranges.partition_point(|(first, _)| first <= ip);
    behind.checked_sub(1).is_some_and(|at| *ip <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 =
            (0u32..16, 0u8..=32).prop_map(|(bits, length)| (IpAddr::from(Ipv4Addr::from(bits << 28 | bits)), length));
        let v6 = (0u128..16, 0u8..=128)
            .prop_map(|(bits, length)| (IpAddr::from(Ipv6Addr::from(bits << 124 | bits)), length));
        prop_oneof![v4, v6].prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc())
    }

    proptest! {
        /// What any of the networks holds, one by one.
        #[test]
        fn hold_what_one_of_them_holds(networks in prop::collection::vec(network(), 0..8), asked in network()) {
            let set = Networks::new(networks.iter().copied());
            for ip in [asked.network(), asked.broadcast()] {
                prop_assert_eq!(set.hold(&ip.to_string()), networks.iter().any(|net| net.contains(&ip)), "{}", ip);
            }
        }
    }

    #[test]
    fn what_is_no_address_is_in_no_network() {
        let all = Networks::new(["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        for (text, held) in
            [("10.0.0.1", true), ("::1", true), ("::ffff:10.0.0.1", true), ("", false), ("10.0.0", false), ("x", false)]
        {
            assert_eq!(all.hold(text), held, "{text}");
        }
        let four = Networks::new(["10.0.0.0/8".parse().unwrap()]);
        assert!(!four.hold("::ffff:10.0.0.1"));
    }
}
