//! Packs: which of the rules that are loaded give alerts, by level and tags.

use std::sync::Arc;

use super::{Level, Meta, RuleSet};

/// A choice of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pack {
    /// Level low and above: what notifies somebody.
    Core,
    /// All, those for reports too.
    Extended,
    /// Pod Security Standards, Baseline and Restricted.
    PssRestricted,
    /// All that bear the tag of a control.
    Compliance,
}

/// The beginnings of tags that name a control.
const CONTROLS: [&str; 5] = ["cis.", "nist.", "iso27001.", "soc2.", "pci."];

impl Pack {
    /// All of them.
    pub const ALL: [Pack; 4] = [Pack::Core, Pack::Extended, Pack::PssRestricted, Pack::Compliance];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Pack::Core => "core",
            Pack::Extended => "extended",
            Pack::PssRestricted => "pss-restricted",
            Pack::Compliance => "compliance",
        }
    }

    /// Whether a rule is in it.
    pub fn holds(self, meta: &Meta) -> bool {
        match self {
            Pack::Core => meta.level >= Level::Low,
            Pack::Extended => true,
            Pack::PssRestricted => meta.reference.as_deref().is_some_and(|short| short.starts_with("PSS-")),
            Pack::Compliance => meta.tags.iter().any(|tag| CONTROLS.iter().any(|start| tag.starts_with(start))),
        }
    }
}

impl RuleSet {
    /// Silences what is in none of the packs. It still feeds the correlations that read it. No pack at all leaves
    /// everything as it is.
    pub fn narrow(&mut self, packs: &[Pack]) {
        let silent = |meta: &Arc<Meta>| !packs.is_empty() && !packs.iter().any(|pack| pack.holds(meta));
        self.rules.iter_mut().filter(|rule| silent(&rule.meta)).for_each(|rule| rule.alerts = false);
        self.correlations.iter_mut().filter(|rule| silent(&rule.meta)).for_each(|rule| rule.alerts = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{SourceFile, load};

    #[test]
    fn what_is_in_no_pack_is_silent_and_still_feeds() {
        let text = "
title: read
name: read
level: informational
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: get}, condition: s}
---
title: many
level: high
tags: [nist.ac-6]
correlation: {type: event_count, rules: [read], generate: true, group-by: [user.username], timespan: 1m, condition: {gte: 3}}
";
        let (set, problems) = load(&[SourceFile::new("a.yml", text)], &Default::default());
        assert!(problems.is_empty(), "{problems:?}");
        for (packs, rule, correlation) in [
            (&[][..], true, true),
            (&[Pack::Extended], true, true),
            (&[Pack::Core], false, true),
            (&[Pack::Compliance], false, true),
            (&[Pack::PssRestricted], false, false),
            (&[Pack::PssRestricted, Pack::Core], false, true),
        ] {
            let mut set = set.clone();
            set.narrow(packs);
            assert_eq!((set.rules[0].alerts, set.correlations[0].alerts), (rule, correlation), "{packs:?}");
            assert_eq!(set.correlations[0].inputs.len(), 1);
        }
    }
}
