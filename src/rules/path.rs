//! Field paths with array selectors: `requestObject.rules[any].verbs`.

use super::diagnostic::did_you_mean;
use super::expr::Quantifier;

/// A field's path, cut at its array selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The arrays on the way, outermost first; each path is relative to the member of the one before.
    pub steps: Vec<Step>,
    /// What follows the last array (all of it if there is none); empty for the member itself.
    pub rest: String,
}

/// An array on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The array's path.
    pub field: String,
    /// Which of its members.
    pub quantifier: Quantifier,
}

/// Why a key is no field path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

const QUANTIFIERS: [(&str, Quantifier); 4] = [
    ("any", Quantifier::Any),
    ("all", Quantifier::All),
    ("all_or_empty", Quantifier::AllOrEmpty),
    ("none", Quantifier::None),
];

/// Reads a path. `\[` and `\]` are plain brackets.
pub fn parse(text: &str) -> Result<Path, PathError> {
    let mut steps = Vec::new();
    let mut field = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['[', ']', '\\']) {
        field.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("\\[") || rest.starts_with("\\]") {
            field.push_str(&rest[1..2]);
            rest = &rest[2..];
        } else if rest.starts_with('\\') {
            field.push('\\');
            rest = &rest[1..];
        } else if let (true, Some(end)) = (rest.starts_with('['), rest.find(']')) {
            let quantifier = quantifier(&rest[1..end])?;
            steps.push(Step { field: std::mem::take(&mut field), quantifier });
            rest = &rest[end + 1..];
            if let Some(after) = rest.strip_prefix('.').filter(|after| !after.is_empty()) {
                rest = after;
            } else if !rest.is_empty() && !rest.starts_with('[') {
                return Err(error(format!("a `.` is expected behind the `]` in `{text}`")));
            }
        } else {
            return Err(error(format!("the brackets in `{text}` do not match")));
        }
    }
    field.push_str(rest);
    Ok(Path { steps, rest: field })
}

fn error(message: String) -> PathError {
    PathError { message, help: Some("write a plain bracket as `\\[` or `\\]`".to_owned()) }
}

fn quantifier(text: &str) -> Result<Quantifier, PathError> {
    if let Some((_, found)) = QUANTIFIERS.iter().find(|(name, _)| *name == text) {
        return Ok(*found);
    }
    if !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && let Ok(index) = text.parse()
    {
        return Ok(Quantifier::Index(index));
    }
    let help = did_you_mean(text, QUANTIFIERS.map(|(name, _)| name));
    let message = format!("`[{text}]` is none of [any], [all], [all_or_empty], [none] and [NUMBER]");
    Err(PathError { message, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_arrays() {
        let check = |text: &str, expected: &str| {
            let shown = match parse(text) {
                Ok(path) => {
                    let steps = path.steps.iter().map(|step| format!("{} {:?} > ", step.field, step.quantifier));
                    format!("{}{}", steps.collect::<String>(), path.rest)
                }
                Err(error) => error.message,
            };
            assert!(shown.starts_with(expected), "{text}: {shown}");
        };
        check("a.b", "a.b");
        check("", "");
        check("a[any]", "a Any > ");
        check("a.b[all].c.d", "a.b All > c.d");
        check("a[any].b[none].c", "a Any > b None > c");
        check("a[0][12].x", "a Index(0) >  Index(12) > x");
        check("a[all_or_empty]", "a AllOrEmpty > ");
        check(r"annotations.x\[any\]\y", r"annotations.x[any]\y");
        check("a[some]", "`[some]` is none");
        check("a[]", "`[]` is none");
        check("a[-1]", "`[-1]` is none");
        check("a[99999999999999999999]", "`[99999999999999999999]` is none");
        check("a[any", "the brackets");
        check("a]", "the brackets");
        check("a[any]b", "a `.` is expected");
    }
}
