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
        match address(text) {
            Some(IpAddr::V4(ip)) => is_in(&self.v4, &ip),
            Some(IpAddr::V6(ip)) => is_in(&self.v6, &ip),
            None => false,
        }
    }

    /// The addresses at which something begins: a network, or what is behind one.
    pub(super) fn edges(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let behind_v4 = |last: Ipv4Addr| last.to_bits().checked_add(1).map(Ipv4Addr::from_bits);
        let behind_v6 = |last: Ipv6Addr| last.to_bits().checked_add(1).map(Ipv6Addr::from_bits);
        let v4 = self.v4.iter().flat_map(move |(first, last)| [Some(*first), behind_v4(*last)]);
        let v6 = self.v6.iter().flat_map(move |(first, last)| [Some(*first), behind_v6(*last)]);
        v4.flatten().map(IpAddr::V4).chain(v6.flatten().map(IpAddr::V6))
    }
}

/// The address that the text is, if it is one.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    dotted(text.as_bytes()).map(IpAddr::V4).or_else(|| text.parse().ok())
}

/// An IPv4 address as it is mostly written, read in one go; `None` if the general parser has to say.
fn dotted(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut octets, mut at) = ([0u8; 4], 0);
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let (start, mut number) = (at, 0u32);
        while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            number = number * 10 + u32::from(digit);
            at += 1;
            if at - start > 3 {
                return None;
            }
        }
        let written_out = at - start == 1 || text.get(start) != Some(&b'0');
        if at == start || !written_out {
            return None;
        }
        *octet = u8::try_from(number).ok()?;
    }
    (at == text.len()).then(|| octets.into())
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
    fn reads_addresses_as_the_general_parser_does() {
        for text in ["10.0.0.1", "255.255.255.255", "0.0.0.0", "1.2.3", "1.2.3.4.5", "1.2.3.4 ", "01.2.3.4", "1.2.3.00"]
        {
            assert_eq!(dotted(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in ["", "256.1.1.1", "1..2.3", "1.2.3.", ".1.2.3", "1.2.3.1000", "::1", "1.2.3.4x", "1,2,3,4"] {
            assert_eq!((dotted(text.as_bytes()), text.parse::<Ipv4Addr>().ok()), (None, None), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_every_address(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            prop_assert_eq!(dotted(ip.to_string().as_bytes()), Some(ip));
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
