use super::*;
use crate::alert::tests::alert_of_rule;

fn alert(number: i64, user: &str) -> (i64, String) {
    let mut alert = alert_of_rule();
    alert.id = format!("{number:032x}");
    alert.actor.username = user.to_owned();
    alert.target.namespace = Some("shop".into());
    (number, serde_json::to_string(&alert).unwrap())
}

fn by_user(interval_us: i64, suppress_us: i64) -> Route {
    Route { group_by: vec![Key::Rule, Key::User], interval_us, suppress_us, ..Route::default() }
}

/// The number, the user and the count of each message.
fn told(messages: &[(i64, String)]) -> Vec<(i64, String, u64)> {
    let told = messages.iter().map(|(number, line)| {
        let alert = Alert::parse(line).unwrap();
        let count = alert.grouped.as_ref().map_or(1, |grouped| grouped.count);
        assert_eq!(alert.message.contains(" more of rule=SEC-002, user="), count > 1);
        (*number, alert.actor.username, count)
    });
    told.collect()
}

#[test]
fn a_pattern_fits_what_it_says() {
    for (pattern, text, fits) in [
        ("SEC-*", "sec-002", true),
        ("*-002", "SEC-002", true),
        ("S*C*2", "SEC-002", true),
        ("SEC-002", "SEC-0022", false),
        ("*", "", true),
        ("", "", true),
        ("", "x", false),
        ("a*a", "a", false),
        ("*b*", "abc", true),
    ] {
        assert_eq!(wild(pattern, text), fits, "{pattern} {text}");
    }
}

#[test]
fn every_key_must_fit_and_one_value_of_each() {
    let alert = Alert::parse(&alert(1, "alice").1).unwrap();
    let list = |text: &str| vec!["nothing".to_owned(), text.to_owned()];
    let all = Matcher {
        level_min: Some(Level::Medium),
        levels: vec![Level::Low, Level::High],
        rules: list("SEC-*"),
        tags: list("attack.t1552.*"),
        namespaces: list("sh*"),
        users: list("alice"),
        clusters: list("*"),
    };
    assert!(all.fits(&alert));
    for none in [
        Matcher { level_min: Some(Level::Critical), ..all.clone() },
        Matcher { levels: vec![Level::Low], ..all.clone() },
        Matcher { rules: vec!["RBAC-*".into()], ..all.clone() },
        Matcher { tags: vec!["x".into()], ..all.clone() },
        Matcher { namespaces: vec!["x".into()], ..all.clone() },
        Matcher { users: vec!["x".into()], ..all.clone() },
        Matcher { clusters: vec!["x".into()], ..all },
    ] {
        assert!(!none.fits(&alert), "{none:?}");
    }
}

#[test]
fn the_first_route_that_fits_decides() {
    let users = |user: &str| Matcher { users: vec![user.into()], ..Matcher::default() };
    let routes = vec![
        Route { matcher: users("robot*"), drop: true, ..Route::default() },
        Route { matcher: users("*a*"), ..Route::default() },
    ];
    let silence = Silence { matcher: users("alan"), from_us: Some(10), until_us: Some(20) };
    let mut router = Router::new(routes, vec![silence], "");
    let lot = [alert(1, "alice"), alert(2, "robot-a"), alert(3, "bob"), alert(4, "alan")];
    for (now, expected) in [(9, vec![1, 4]), (10, vec![1]), (19, vec![1]), (20, vec![1, 4])] {
        let messages = router.messages(&lot, now);
        assert_eq!(messages.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected, "{now}");
        // What is told alone is told as it is stored.
        assert_eq!(messages[0].1, lot[0].1);
    }
    let expected = Routed { told: 6, unrouted: 8, silenced: 2, ..Routed::default() };
    assert_eq!((router.routed, router.state(), router.due_us()), (expected, None, None));
}

#[test]
fn a_storm_is_one_message_with_a_count() {
    let mut router = Router::new(vec![by_user(0, 0)], Vec::new(), "");
    let lot: Vec<_> = (1..=9).map(|n| alert(n, if n % 3 == 0 { "bob" } else { "alice" })).collect();
    assert_eq!(told(&router.messages(&lot, 0)), [(1, "alice".into(), 6), (3, "bob".into(), 3)]);
}

#[test]
fn what_comes_after_a_message_is_told_at_the_end_of_the_interval() {
    let mut router = Router::new(vec![by_user(100, 0)], Vec::new(), "");
    assert_eq!(told(&router.messages(&[alert(1, "alice")], 0)), [(1, "alice".into(), 1)]);
    assert_eq!(router.due_us(), None);
    assert_eq!(router.messages(&[alert(2, "alice"), alert(3, "alice")], 50), []);
    assert_eq!(router.due_us(), Some(100));
    // Remembered over a restart.
    let state = router.state().unwrap();
    assert_eq!(router.state(), None);
    let mut router = Router::new(vec![by_user(100, 0)], Vec::new(), &state);
    assert_eq!(router.messages(&[alert(4, "alice")], 99), []);
    let messages = router.messages(&[], 100);
    assert_eq!(told(&messages), [(0, "alice".into(), 3)]);
    assert_eq!(Alert::parse(&messages[0].1).unwrap().id, format!("{:032x}", 2), "the first that was not told");
    // A storm that goes on is one message an interval; silence ends it.
    assert_eq!(router.messages(&[alert(5, "alice")], 150), []);
    assert_eq!(told(&router.messages(&[], 200)), [(0, "alice".into(), 1)]);
    assert_eq!(router.messages(&[], 300), []);
    assert_eq!((router.due_us(), router.state().as_deref()), (None, Some("{}")));
}

#[test]
fn what_is_suppressed_is_counted_in_the_next_message() {
    let mut router = Router::new(vec![by_user(0, 100)], Vec::new(), "");
    let mut at = |number, now| told(&router.messages(&[alert(number, "alice")], now));
    assert_eq!(at(1, 0), [(1, "alice".into(), 1)]);
    assert!(at(2, 50).is_empty() && at(3, 99).is_empty());
    assert_eq!(at(4, 100), [(4, "alice".into(), 3)]);
    assert!(at(5, 150).is_empty());
    assert_eq!(router.routed, Routed { told: 2, suppressed: 3, ..Routed::default() });
}

#[test]
fn groups_are_bounded_and_none_is_lost() {
    let mut router = Router::new(vec![by_user(1000, 0)], Vec::new(), "");
    let groups = GROUPS_MAX as i64 + 10;
    let first: Vec<_> = (0..groups).map(|n| alert(n + 1, &n.to_string())).collect();
    assert_eq!(router.messages(&first, 0).len() as i64, groups);
    let second: Vec<_> = (0..groups).map(|n| alert(n + 1 + groups, &n.to_string())).collect();
    let count = |messages: &[(i64, String)]| told(messages).iter().map(|(.., count)| *count as i64).sum::<i64>();
    let now = count(&router.messages(&second, 500));
    let later = count(&router.messages(&[], 10_000));
    assert_eq!(now + later, groups);
    assert!(router.held.len() <= GROUPS_MAX && router.routed.groups_forced >= 10);
}
