//! What the address of an event's client means for all rules.
//!
//! Tests of networks cut the addresses into ranges, within each of which all of them say the same. What a range rules out,
//! and which parts of conditions it settles, is worked out when the program is compiled: addresses themselves seldom come
//! again, so nothing would be gained by remembering them.
//!
//! Invariant: a range means for each rule what each of its addresses does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::condition::{Condition, Verdict};
use super::index::{Bits, ones, set, unset};
use super::networks::{Networks, address};
use crate::event::view::Event;

/// A client that has no address, and one whose address is none.
const OTHERS: usize = 2;

/// What addresses mean.
#[derive(Debug)]
pub struct Addresses {
    /// Where ranges begin; the first begins with the first address.
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
    /// Of others, then of the ranges: the rules that are left, and the parts that hold.
    meanings: Box<[(Bits, Bits)]>,
}

impl Addresses {
    /// What they mean for these parts; `rules_of` has the rules of each. Bitsets have so many words, of rules and of what is
    /// settled.
    pub fn new(parts: &[Condition], rules_of: &[Vec<u32>], (words, settled): (usize, usize)) -> Addresses {
        let (mut v4, mut v6) = (vec![Ipv4Addr::from_bits(0)], vec![Ipv6Addr::from_bits(0)]);
        let mut concerned = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let mut concerns = false;
            part.any_test(&mut |check| {
                if !check.is_of_client() {
                    return false;
                }
                concerns = true;
                check.networks().into_iter().flat_map(Networks::edges).for_each(|edge| match edge {
                    IpAddr::V4(ip) => v4.push(ip),
                    IpAddr::V6(ip) => v6.push(ip),
                });
                false
            });
            if concerns {
                concerned.push((number, part));
            }
        }
        let (v4, v6) = (sorted(v4), sorted(v6));
        let ranges = v4.iter().map(|ip| ip.to_string()).chain(v6.iter().map(|ip| ip.to_string()));
        let texts = [None, Some(String::new())].into_iter().chain(ranges.map(Some));
        let meaning = |text: Option<String>| {
            let (mut left, mut settled) = (ones(words), vec![0; settled]);
            for (number, part) in &concerned {
                let verdict = part.settle_by(&|check| match check.is_of_client() {
                    true => check.eval_address(text.as_deref()),
                    false => Verdict::Unknown,
                });
                match verdict {
                    Verdict::False => rules_of[*number].iter().for_each(|rule| unset(&mut left, *rule as usize)),
                    Verdict::True => set(&mut settled, *number),
                    Verdict::Unknown => {}
                }
            }
            (left, settled)
        };
        Addresses { meanings: texts.map(meaning).collect(), v4, v6 }
    }

    /// The rules that the event's address does not rule out, and the parts of conditions that hold by it.
    #[inline]
    pub fn meaning(&self, event: &Event<'_>) -> (&[u64], &[u64]) {
        let (left, settled) = &self.meanings[self.range(event.client_ip())];
        (left, settled)
    }

    fn range(&self, text: Option<&str>) -> usize {
        let Some(text) = text else { return 0 };
        match address(text) {
            None => 1,
            Some(IpAddr::V4(ip)) => OTHERS + self.v4.partition_point(|first| *first <= ip) - 1,
            Some(IpAddr::V6(ip)) => OTHERS + self.v4.len() + self.v6.partition_point(|first| *first <= ip) - 1,
        }
    }
}

fn sorted<A: Ord>(mut edges: Vec<A>) -> Box<[A]> {
    edges.sort_unstable();
    edges.dedup();
    edges.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::super::condition::Doubt;
    use super::super::index::has;
    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Expr, Op, StrHow, StrOp, Test};

    const NETWORKS: [&str; 9] = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.1/32",
        "192.168.0.0/16",
        "255.255.255.0/24",
        "::/0",
        "fc00::/7",
        "::1/128",
        "ffff:ffff::/32",
    ];

    const SOURCES: [&str; 16] = [
        "",
        r#""sourceIPs":null,"#,
        r#""sourceIPs":[],"#,
        r#""sourceIPs":[""],"#,
        r#""sourceIPs":["x"],"#,
        r#""sourceIPs":["010.0.0.1"],"#,
        r#""sourceIPs":["9.255.255.255"],"#,
        r#""sourceIPs":["10.0.0.0"],"#,
        r#""sourceIPs":["203.0.113.1","10.0.0.1"],"#,
        r#""sourceIPs":["11.0.0.0"],"#,
        r#""sourceIPs":["255.255.255.255"],"#,
        r#""sourceIPs":["::1"],"#,
        r#""sourceIPs":["FC00::0"],"#,
        r#""sourceIPs":["::ffff:10.0.0.1"],"#,
        r#""sourceIPs":["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],"#,
        r#""sourceIPs":["1\u0030.0.0.1"],"#,
    ];

    fn test() -> impl Strategy<Value = Expr> {
        let networks = subsequence(&NETWORKS[..], 1..4)
            .prop_map(|nets| nets.iter().map(|net| Op::Cidr(net.parse().unwrap())).collect());
        let others = [
            Op::Exists(true),
            Op::Exists(false),
            Op::Null,
            Op::Never,
            Op::Str(StrOp { how: StrHow::Prefix("10.".into()), cased: true }),
        ];
        let any_of = prop_oneof![4 => networks, 1 => select(others.to_vec()).prop_map(|op| vec![op])];
        (any_of, select(&["k8s.clientIP", "k8s.clientIP", "k8s.clientIP", "verb"][..])).prop_map(|(any_of, field)| {
            Expr::Test(Test { field: Some(field.into()), any_of, span: Default::default() })
        })
    }

    fn condition() -> impl Strategy<Value = Expr> {
        test().prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(part.into())),
                prop::collection::vec(inner.clone(), 1..3).prop_map(Expr::And),
                prop::collection::vec(inner, 1..3).prop_map(Expr::Or),
            ]
        })
    }

    fn of_address_alone(part: &Condition) -> bool {
        let others = part.any_test(&mut |check| !check.is_of_client());
        !others && part.any_test(&mut |_| true)
    }

    proptest! {
        /// What an address settles is what its event is judged to be.
        #[test]
        fn an_address_means_what_it_is_judged_to_mean(exprs in prop::collection::vec(condition(), 1..5)) {
            let parts: Vec<Condition> = exprs.iter().map(|expr| Condition::compile(expr).unwrap()).collect();
            let rules_of: Vec<Vec<u32>> = (0..parts.len() as u32).map(|part| vec![part]).collect();
            let addresses = Addresses::new(&parts, &rules_of, (1, 1));
            for source in SOURCES {
                with_event(&format!(r#"{{{source}"verb":"10.0.0.1"}}"#), |event| {
                    let (left, settled) = addresses.meaning(event);
                    for (number, part) in parts.iter().enumerate() {
                        let (out, holds) = (!has(left, number), has(settled, number));
                        let judged = part.judge(event, &Doubt::default());
                        assert!(!out || judged == Verdict::False, "{source} {:?}", exprs[number]);
                        assert!(!holds || judged == Verdict::True, "{source} {:?}", exprs[number]);
                        let decided = out || holds || !of_address_alone(part);
                        assert!(decided, "{source} {:?}", exprs[number]);
                    }
                });
            }
        }
    }
}
