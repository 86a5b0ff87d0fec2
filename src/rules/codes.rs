//! The codes of problems: stable across versions, so that they can be filtered, linked and suppressed.

/// Every code, in alphabetical order, with what it stands for.
pub const CODES: &[(&str, &str)] = &[
    ("always-false", "the condition can never hold, so the rule never fires (or the filter takes away every match)"),
    ("always-true", "the condition holds for every event"),
    ("array-matching-off", "`[any]` and its like need `sigma-version: 3`"),
    ("bad-condition", "the condition is not of Sigma's grammar"),
    ("bad-date", "a date is written as YYYY-MM-DD"),
    ("bad-field", "the name of the field has brackets that mean nothing"),
    ("bad-relation", "`related` names another rule's id and how it is related"),
    ("bad-tag", "a tag is written as `namespace.name`, in lower case"),
    (
        "base64offset-without-contains",
        "`base64offset` looks for a part of a value; without `contains` it must be the whole",
    ),
    ("broken-reference", "the correlation reads another one that has errors"),
    ("cannot-compile", "the rule is too large once compiled"),
    ("cycle", "correlations feed themselves"),
    ("duplicate-id", "two documents have one id"),
    ("duplicate-modifier", "a modifier stands twice"),
    ("duplicate-name", "two documents have one name"),
    ("duplicate-rule", "a correlation refers to one rule twice"),
    ("empty-selection", "a selection or a list of values is empty"),
    ("filter-on-correlation", "filters are for rules, not for correlations"),
    ("foreign-taxonomy", "the fields are named as in another product"),
    ("incomplete-alias", "an alias has no field for one of the rules"),
    ("invalid-id", "an id is a UUID"),
    ("invalid-regex", "the regular expression is none, or too large"),
    ("long-title", "a title has 256 characters at most"),
    ("map-as-value", "a map stands where a value should"),
    ("missing-condition", "there is no condition"),
    ("missing-field", "`value_count` and its like count the values of a field"),
    ("missing-logsource", "a rule says for which logs it is"),
    ("missing-rules", "a correlation or filter names no rules"),
    ("missing-timespan", "a correlation has no timespan"),
    ("missing-title", "a document has no title"),
    ("missing-type", "a correlation has no type"),
    ("modifier-conflict", "modifiers do not go together"),
    ("never-matches", "the field never has this value"),
    ("other-log-source", "the document is not for Kubernetes audit logs and is left out"),
    ("rule-collection", "rule collections were removed from Sigma"),
    ("timeframe-ignored", "`timeframe` was removed from Sigma; write a correlation"),
    ("too-deep", "arrays, or correlations over correlations, are nested too deep"),
    ("too-large", "a document goes beyond a limit"),
    ("too-many-problems", "more problems than are shown"),
    ("too-many-values", "a value stands for too many values"),
    ("too-many-wildcards", "a value has too many wildcards"),
    ("unknown-attribute", "an attribute has no effect, most likely for a slip of the pen"),
    ("unknown-correlation-type", "a correlation's type is unknown"),
    ("unknown-document", "a document is neither rule, correlation nor filter"),
    ("unknown-field", "no audit event has this field"),
    ("unknown-level", "the level is not in the specification"),
    ("unknown-modifier", "the modifier is not in the specification"),
    ("unknown-operator", "the operator is not in the specification"),
    ("unknown-rule", "no rule has this name or id"),
    ("unknown-selection", "there is no selection of this name"),
    ("unknown-status", "the status is not in the specification"),
    ("unknown-version", "`sigma-version` is 1, 2 or 3"),
    ("unsupported-condition", "a `temporal_ordered` correlation needs all of its rules"),
    ("unused-alias", "nothing uses the alias"),
    ("unused-selection", "the condition does not use the selection"),
    ("useless-modifier", "the modifier has no effect"),
    ("wildcard-in-base64", "a text with wildcards cannot be encoded"),
    ("wrong-value", "a value is of the wrong kind"),
    ("yaml", "the file is not YAML, or beyond the limits of a rule file"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_once() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
