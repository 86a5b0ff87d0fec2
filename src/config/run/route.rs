//! What is said of routes, silences and overrides of rules.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::values::{Instant, Micros};
use crate::rules::Level;
use crate::sink::route::Key;

/// Which alerts. Every key that is there must fit; within a key one of its values must. `*` stands for any text.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct MatchConfig {
    /// At least this level.
    #[serde(default)]
    pub min_level: Option<Level>,
    /// One of these levels.
    #[serde(default)]
    pub levels: Vec<Level>,
    /// Rules, by id, short id or title, e.g. `SEC-*`.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Tags of the rule, e.g. `attack.credential-access`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Namespaces.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Users.
    #[serde(default)]
    pub users: Vec<String>,
    /// Clusters.
    #[serde(default)]
    pub clusters: Vec<String>,
}

/// What is done with the alerts that fit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct RouteConfig {
    /// Which alerts.
    #[serde(flatten)]
    pub matches: MatchConfig,
    /// Whether they are not told.
    #[serde(default)]
    pub drop: bool,
    /// Alerts that agree in these are one message with a count, where they come together.
    #[serde(default)]
    pub group_by: Vec<Key>,
    /// After a message, the group's further alerts wait so long, and are one message then.
    #[serde(default)]
    pub group_interval: Micros,
    /// After a message, nothing more is told of the group for so long. The next message tells how many there were.
    #[serde(default)]
    pub suppress: Micros,
}

/// What sinks are not told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct SilenceConfig {
    /// Which alerts.
    #[serde(flatten)]
    pub matches: MatchConfig,
    /// From when on, by this machine's clock.
    #[serde(default)]
    pub from: Option<Instant>,
    /// Until when.
    #[serde(default)]
    pub until: Option<Instant>,
    /// Names of the sinks; all, if nothing is said.
    #[serde(default)]
    pub sinks: Vec<String>,
    /// Why, for those who come later.
    #[serde(default)]
    pub comment: String,
}

/// What is different about rules.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct OverrideConfig {
    /// Rules and correlations, by id, short id, name or title; `*` stands for any text.
    pub rules: Vec<String>,
    /// Whether they give alerts. One that does not still feeds correlations.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Their level.
    #[serde(default)]
    pub level: Option<Level>,
    /// What a correlation's count has to reach.
    #[serde(default)]
    pub threshold: Option<u32>,
    /// The length of a correlation's window.
    #[serde(default)]
    pub timespan: Option<Micros>,
}

impl RouteConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let times = [self.group_interval.0, self.suppress.0];
        match self.group_by.is_empty() {
            true if times != [0, 0] => Err("routes: group_interval and suppress need group_by".to_owned()),
            _ if times.iter().all(|time| *time > 0) => {
                Err("routes: say group_interval or suppress, not both".to_owned())
            }
            _ => Ok(()),
        }
    }
}
