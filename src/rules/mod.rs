//! Rules: files in, one [`RuleSet`] and its diagnostics out. Every dialect lowers to [`expr::Expr`].

pub mod adjust;
mod chain;
pub mod codes;
pub mod condition;
pub mod correlation;
pub mod detection;
pub mod diagnostic;
pub mod encoding;
pub mod expr;
pub mod filter;
mod link;
mod lint;
pub mod load;
pub mod modifiers;
pub mod pack;
pub mod path;
mod selections;
pub mod show;
pub mod sigma;
pub mod span;
pub mod strings;
pub mod suggest;
mod threshold;
pub mod yaml;

pub use adjust::Adjustment;
pub use diagnostic::{Diagnostic, Severity, source_lines};
pub use load::{check, load};
pub use suggest::suggest;

use std::collections::BTreeMap;
use std::sync::Arc;

use expr::{Cmp, Expr, Span};

/// The site's lists, by name: what `%name%` stands for under `|expand`.
pub type Placeholders = BTreeMap<String, Vec<String>>;

/// A rule file: its name (for messages) and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// The name, as the user would write it.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// The documents of the text, if they were read before.
    pub documents: Option<Vec<yaml::Node>>,
}

impl SourceFile {
    /// A file by its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        SourceFile { name: name.into(), text: text.into(), documents: None }
    }
}

/// Severity of a rule (Sigma specification v2.1.0, `level`), lowest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For reports; not meant to notify anybody.
    Informational,
    /// Worth a look in bulk.
    Low,
    /// Worth a look each time.
    Medium,
    /// Needs an answer soon.
    High,
    /// Needs an answer now.
    Critical,
}

impl Level {
    /// As rules write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Informational => "informational",
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }
}

/// What is known about a rule or correlation besides its condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// UUID as written, or one derived from the title.
    pub id: String,
    /// The catalogue's short id, e.g. `SEC-002` (our attribute `ref`).
    pub reference: Option<String>,
    /// Sigma's `name`, by which correlations and filters refer to it.
    pub name: Option<String>,
    /// Title.
    pub title: String,
    /// Description, empty if there is none.
    pub description: String,
    /// Severity; `medium` if the rule names none.
    pub level: Level,
    /// Tags as written.
    pub tags: Vec<String>,
    /// What else may cause it.
    pub false_positives: Vec<String>,
    /// Links.
    pub references: Vec<String>,
    /// The file it stands in (as given), and where the document starts.
    pub file: String,
    /// Where in the file.
    pub span: Span,
}

/// A rule: a condition over one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Identity and texts.
    pub meta: Arc<Meta>,
    /// The condition, filters already applied.
    pub condition: Expr,
    /// Whether the condition names `stage`; if not, the rule is judged at every stage that carries an outcome.
    pub names_stage: bool,
    /// Whether its matches are told as alerts of their own (false if only correlations want them).
    pub alerts: bool,
}

/// A reference from a correlation to what feeds it: an index into [`RuleSet::rules`] or [`RuleSet::correlations`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// A rule's matches.
    Rule(usize),
    /// The alerts of another correlation (it stands earlier in the list).
    Correlation(usize),
}

/// A correlation: a condition over the matches of rules within a timespan, per group.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// Identity and texts.
    pub meta: Arc<Meta>,
    /// What feeds it, in the order written (the order matters for `temporal_ordered`).
    pub inputs: Vec<Input>,
    /// What is counted.
    pub kind: CorrelationKind,
    /// Names of fields or aliases, in the order written.
    pub group_by: Vec<String>,
    /// For each alias: the field it stands for, per input (index into `inputs`); a field for every input.
    pub aliases: BTreeMap<String, Vec<Option<String>>>,
    /// Length of the window in microseconds.
    pub timespan_us: i64,
    /// How long a condition that goes on holding stays silent before it is told again, in microseconds (default 1 h).
    pub realert_us: i64,
    /// How long after an alert a group stays silent in any case, in microseconds (0: not at all).
    pub suppress_us: i64,
    /// Whether clusters are mixed.
    pub across_clusters: bool,
    /// Whether it gives alerts of its own (false if only chained correlations want them).
    pub alerts: bool,
}

/// The type of a correlation and its condition (Sigma correlation rules v2.1.0, and two of our own).
#[derive(Debug, Clone, PartialEq)]
pub enum CorrelationKind {
    /// Number of matches.
    EventCount(Vec<(Cmp, i64)>),
    /// Number of distinct values of the fields (a tuple is one value).
    ValueCount(Vec<(Cmp, i64)>, Vec<String>),
    /// A measure of the numbers in a field. The bounds are in thousandths.
    Numbers(Measure, Vec<(Cmp, i64)>, Vec<String>),
    /// Inputs, in any order.
    Temporal(Needed),
    /// All inputs, in the order written.
    TemporalOrdered,
    /// Ours: a tuple of values of the fields that its group has not had within the timespan.
    NewValue {
        /// The fields.
        fields: Vec<String>,
        /// For so long after its first match a group only learns, microseconds.
        learning_us: i64,
    },
    /// Ours: nothing came for the timespan.
    EventAbsence {
        /// So many of the last inputs begin the wait, and the others end it; 0: every match ends a wait and begins the next.
        after: usize,
    },
}

impl CorrelationKind {
    /// The fields whose values are counted.
    pub fn counted(&self) -> &[String] {
        match self {
            CorrelationKind::ValueCount(_, fields)
            | CorrelationKind::Numbers(_, _, fields)
            | CorrelationKind::NewValue { fields, .. } => fields,
            _ => &[],
        }
    }
}

/// What is made of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// `value_sum`.
    Sum,
    /// `value_avg`.
    Avg,
    /// `value_percentile`, in thousandths of a percent, between the two nearest numbers where it falls; `value_median` is 50 %.
    Percentile(u32),
}

/// Which inputs of a temporal correlation have to be there.
#[derive(Debug, Clone, PartialEq)]
pub enum Needed {
    /// All of them.
    All,
    /// So many different ones.
    Count(Vec<(Cmp, i64)>),
    /// Those for which the condition holds (Sigma enhancement proposal 198, accepted for v2.2).
    Seen(Seen),
}

/// A condition over which inputs were seen within the timespan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The input at this place was.
    Input(usize),
    /// All parts.
    And(Vec<Seen>),
    /// At least one part.
    Or(Vec<Seen>),
    /// Not the part.
    Not(Box<Seen>),
}

impl Seen {
    /// Whether the condition holds, if `seen` says which inputs were seen. It is at most as deep as a rule's condition.
    pub fn holds(&self, seen: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Seen::Input(place) => seen(*place),
            Seen::And(parts) => parts.iter().all(|part| part.holds(seen)),
            Seen::Or(parts) => parts.iter().any(|part| part.holds(seen)),
            Seen::Not(part) => !part.holds(seen),
        }
    }
}

/// All rules that run together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSet {
    /// Rules, sorted by id.
    pub rules: Vec<Rule>,
    /// Correlations, sorted so that inputs stand before those who read them, then by id.
    pub correlations: Vec<Correlation>,
}
