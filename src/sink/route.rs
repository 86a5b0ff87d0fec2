//! Which alerts a sink is told, and which of them together. Pure: alerts and the time in, messages out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Group, Grouped};
use crate::event::time::format_micros;
use crate::rules::Level;

/// So many groups are remembered; with one more the one that is due first is told before its time.
pub const GROUPS_MAX: usize = 256;

/// Which alerts. Every list that is not empty must hold something that fits.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// At least this level.
    pub level_min: Option<Level>,
    /// One of these levels.
    pub levels: Vec<Level>,
    /// Patterns of ids, short ids and titles.
    pub rules: Vec<String>,
    /// Patterns of tags.
    pub tags: Vec<String>,
    /// Patterns of namespaces.
    pub namespaces: Vec<String>,
    /// Patterns of users.
    pub users: Vec<String>,
    /// Patterns of clusters.
    pub clusters: Vec<String>,
}

impl Matcher {
    /// Whether an alert fits.
    pub fn fits(&self, alert: &Alert) -> bool {
        let rule = &alert.rule;
        let any = |patterns: &[String], texts: &[&str]| {
            patterns.is_empty() || patterns.iter().any(|pattern| texts.iter().any(|text| wild(pattern, text)))
        };
        let tags: Vec<&str> = rule.tags.iter().map(String::as_str).collect();
        self.level_min.is_none_or(|least| rule.level >= least)
            && (self.levels.is_empty() || self.levels.contains(&rule.level))
            && any(&self.rules, &[&rule.id, rule.reference.as_deref().unwrap_or_default(), &rule.title])
            && any(&self.tags, &tags)
            && any(&self.namespaces, &[alert.target.namespace.as_deref().unwrap_or_default()])
            && any(&self.users, &[&alert.actor.username])
            && any(&self.clusters, &[&alert.cluster])
    }
}

/// Whether a text fits a pattern in which `*` stands for any text. Case does not matter.
pub fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// In what alerts may agree; the configuration names it like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "GroupKey")]
pub enum Key {
    /// The rule.
    Rule,
    /// Its level.
    Level,
    /// The cluster.
    Cluster,
    /// The namespace.
    Namespace,
    /// The user.
    User,
    /// The resource, e.g. `secrets`.
    Resource,
    /// The object's name.
    Name,
    /// The client's address.
    Address,
}

impl Key {
    fn of(self, alert: &Alert) -> (String, String) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, value) = match self {
            Key::Rule => ("rule", alert.rule.reference.clone().unwrap_or_else(|| alert.rule.id.clone())),
            Key::Level => ("level", alert.rule.level.name().to_owned()),
            Key::Cluster => ("cluster", alert.cluster.clone()),
            Key::Namespace => ("namespace", text(&alert.target.namespace)),
            Key::User => ("user", alert.actor.username.clone()),
            Key::Resource => ("resource", text(&alert.target.resource)),
            Key::Name => ("name", text(&alert.target.name)),
            Key::Address => ("address", text(&alert.actor.client_ip)),
        };
        (name.to_owned(), value)
    }
}

/// What is done with alerts that fit.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Which.
    pub matcher: Matcher,
    /// Whether they are not told.
    pub drop: bool,
    /// In what those agree that are told together; none: one by one.
    pub group_by: Vec<Key>,
    /// How long a group waits after a message, microseconds; what came is told then.
    pub interval_us: i64,
    /// How long nothing is told of a group after a message, microseconds.
    pub suppress_us: i64,
}

/// A time without alerts.
#[derive(Debug, Clone, Default)]
pub struct Silence {
    /// Of which.
    pub matcher: Matcher,
    /// From when on, microseconds.
    pub from_us: Option<i64>,
    /// Until when, microseconds.
    pub until_us: Option<i64>,
}

/// What became of alerts that were not told one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Routed {
    /// Told, alone or first of a group.
    pub told: u64,
    /// Told with others, or waiting for that.
    pub grouped: u64,
    /// Passed over because their group was told a short while ago.
    pub suppressed: u64,
    /// Passed over by a silence.
    pub silenced: u64,
    /// Passed over because no route wants them.
    pub unrouted: u64,
    /// Groups told before their time because there were too many.
    pub groups_forced: u64,
}

/// A group that was told and is remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    /// Its route.
    route: usize,
    until_us: i64,
    /// Alerts since.
    count: u64,
    /// The first of them, if it is to be told.
    first: Option<Box<Alert>>,
    /// Event time of the last of them, microseconds.
    to_us: i64,
    by: Group,
}

/// A message that is being made.
struct Draft {
    /// The first alert; none if only the line is known.
    alert: Option<Alert>,
    /// The stored line, if nothing has to be added.
    line: Option<String>,
    by: Option<Group>,
    count: u64,
    to_us: i64,
}

/// Decides for one sink.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
    silences: Vec<Silence>,
    held: BTreeMap<String, Held>,
    changed: bool,
    /// What became of alerts so far.
    pub routed: Routed,
}

impl Router {
    /// Without routes everything is told, one by one. `state` is what an earlier router remembered.
    pub fn new(routes: Vec<Route>, silences: Vec<Silence>, state: &str) -> Router {
        // What cannot be read is from another version: groups begin anew.
        let held = serde_json::from_str(state).unwrap_or_default();
        Router { routes, silences, held, changed: false, routed: Routed::default() }
    }

    /// Whether alerts may be told together.
    pub fn groups(&self) -> bool {
        !self.held.is_empty() || self.routes.iter().any(|route| !route.group_by.is_empty())
    }

    /// What is to be remembered, if it is not what it was.
    pub fn state(&mut self) -> Option<String> {
        // Strings and numbers can always be written.
        std::mem::take(&mut self.changed).then(|| serde_json::to_string(&self.held).unwrap_or_default())
    }

    /// When the next group is to be told, microseconds.
    pub fn due_us(&self) -> Option<i64> {
        self.held.values().filter(|held| held.first.is_some()).map(|held| held.until_us).min()
    }

    /// The messages for some alerts, which are lines of JSON, and for groups that are due; each with the number of its
    /// alert, or of the last one before it.
    pub fn messages(&mut self, lot: &[(i64, String)], now_us: i64) -> Vec<(i64, String)> {
        let mut drafts: Vec<(i64, Draft)> = Vec::new();
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        let before = lot.first().map_or(0, |(number, _)| number - 1);
        drafts.extend(self.due(now_us).into_iter().map(|draft| (before, draft)));
        for (number, line) in lot {
            // It was an alert when it was stored: the receiver may find out what is wrong with it.
            let Ok(alert) = Alert::parse(line) else {
                self.routed.told += 1;
                drafts.push((*number, Draft::unread(line)));
                continue;
            };
            let Some(route) = self.route(&alert, now_us) else { continue };
            if self.routes.get(route).is_none_or(|route| route.group_by.is_empty()) {
                self.routed.told += 1;
                drafts.push((*number, Draft { line: Some(line.clone()), ..Draft::new(alert, None) }));
                continue;
            }
            let by = Group(self.routes[route].group_by.iter().map(|key| key.of(&alert)).collect());
            let name = format!("{route} {:?}", by.0);
            if let Some((_, draft)) = open.get(&name).and_then(|at| drafts.get_mut(*at)) {
                self.routed.grouped += 1;
                draft.count += 1;
                draft.to_us = draft.to_us.max(alert.time_us);
            } else if !self.hold(route, &name, &alert, now_us) {
                let earlier = self.tell(route, &name, &by, now_us, &mut drafts, *number);
                self.routed.told += 1;
                let draft = Draft::new(alert, Some(by));
                open.insert(name, drafts.len());
                drafts.push((*number, Draft { count: 1 + earlier, line: None, ..draft }));
            }
        }
        drafts.into_iter().map(|(number, draft)| (number, draft.finish())).collect()
    }

    /// The route of an alert; `None` if it is not told.
    fn route(&mut self, alert: &Alert, now_us: i64) -> Option<usize> {
        let during = |silence: &&Silence| {
            silence.from_us.is_none_or(|from| from <= now_us) && silence.until_us.is_none_or(|until| now_us < until)
        };
        if self.silences.iter().filter(during).any(|silence| silence.matcher.fits(alert)) {
            self.routed.silenced += 1;
            return None;
        }
        if self.routes.is_empty() {
            return Some(0);
        }
        let found = self.routes.iter().position(|route| route.matcher.fits(alert));
        let found = found.filter(|at| !self.routes[*at].drop);
        self.routed.unrouted += u64::from(found.is_none());
        found
    }

    /// Keeps an alert of a group that was told a short while ago. False if it was not.
    fn hold(&mut self, route: usize, name: &str, alert: &Alert, now_us: i64) -> bool {
        let Some(held) = self.held.get_mut(name).filter(|held| now_us < held.until_us) else { return false };
        self.changed = true;
        held.count += 1;
        held.to_us = held.to_us.max(alert.time_us);
        if self.routes[route].interval_us > 0 {
            self.routed.grouped += 1;
            held.first.get_or_insert_with(|| Box::new(small(alert)));
        } else {
            self.routed.suppressed += 1;
        }
        true
    }

    /// Remembers that a group is told now. Gives how many of it were passed over since the last time.
    fn tell(
        &mut self,
        route: usize,
        name: &str,
        by: &Group,
        now_us: i64,
        drafts: &mut Vec<(i64, Draft)>,
        number: i64,
    ) -> u64 {
        let Route { interval_us, suppress_us, .. } = self.routes[route];
        let wait = interval_us.max(suppress_us);
        let earlier = self.held.remove(name).map_or(0, |held| held.count);
        if wait == 0 {
            return earlier;
        }
        self.changed = true;
        if self.held.len() >= GROUPS_MAX
            && let Some(first) = self.held.iter().min_by_key(|(_, held)| held.until_us).map(|(name, _)| name.clone())
            && let Some(held) = self.held.remove(&first)
        {
            self.routed.groups_forced += 1;
            drafts.extend(Draft::of_held(held).map(|draft| (number - 1, draft)));
        }
        let held = Held { route, until_us: now_us + wait, count: 0, first: None, to_us: 0, by: by.clone() };
        self.held.insert(name.to_owned(), held);
        earlier
    }

    /// Groups whose wait is over: what came meanwhile. A group of which nothing came is forgotten.
    fn due(&mut self, now_us: i64) -> Vec<Draft> {
        let over = |held: &Held| held.until_us <= now_us;
        let names: Vec<String> =
            self.held.iter().filter(|(_, held)| over(held)).map(|(name, _)| name.clone()).collect();
        let mut drafts = Vec::new();
        for name in names {
            // Of a suppressed group the count is kept for the next message, as long as there is room.
            let keeps = self.held.get(&name).is_some_and(|held| held.count > 0 && held.first.is_none());
            if keeps {
                continue;
            }
            self.changed = true;
            let Some(held) = self.held.remove(&name) else { continue };
            let again = self.routes.get(held.route).map(|route| route.interval_us).filter(|wait| *wait > 0);
            if let (Some(wait), true) = (again, held.first.is_some()) {
                let next = Held { until_us: now_us + wait, count: 0, first: None, ..held.clone() };
                self.held.insert(name, next);
            }
            drafts.extend(Draft::of_held(held));
        }
        drafts
    }
}

impl Draft {
    fn new(alert: Alert, by: Option<Group>) -> Draft {
        Draft { to_us: alert.time_us, alert: Some(alert), line: None, by, count: 1 }
    }

    fn unread(line: &str) -> Draft {
        Draft { alert: None, line: Some(line.to_owned()), by: None, count: 1, to_us: 0 }
    }

    fn of_held(held: Held) -> Option<Draft> {
        let Held { first, count, to_us, by, .. } = held;
        first.map(|first| Draft { count, to_us, ..Draft::new(*first, Some(by)) })
    }

    fn finish(self) -> String {
        let Draft { alert, line, by, count, to_us } = self;
        let (Some(mut alert), None) = (alert, &line) else { return line.unwrap_or_default() };
        if let Some(by) = by.filter(|_| count > 1) {
            let names: Vec<String> = by.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
            alert.message += &format!(" (and {} more of {})", count - 1, names.join(", "));
            let (from, to) = (alert.time.clone(), format_micros(to_us.max(alert.time_us)));
            alert.grouped = Some(Grouped { by, count, from, to });
        }
        serde_json::to_string(&alert).unwrap_or_default()
    }
}

/// An alert without most of its evidence, which would take room for as long as its group waits.
fn small(alert: &Alert) -> Alert {
    let mut small = alert.clone();
    let more = small.events.len().saturating_sub(1);
    small.events.drain(..more);
    small.evidence_truncated |= more > 0;
    small
}

#[cfg(test)]
mod tests;
