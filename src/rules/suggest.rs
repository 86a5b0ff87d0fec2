//! "Did you mean …?"

/// The candidate that `name` was most likely meant to be, if any is close enough to be worth saying.
///
/// Close means: at most a third of the longer word is typed differently (a swap of two neighbours is one difference).
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    // A name longer than any real one is not a typing mistake, and the distance costs the product of the lengths.
    if wanted.is_empty() || wanted.len() > MAX_LENGTH {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let chars: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let longer = wanted.len().max(chars.len());
        let limit = (longer / 3).max(1);
        if longer < 2 || chars.len() > MAX_LENGTH || wanted.len().abs_diff(chars.len()) > limit {
            continue;
        }
        let distance = distance(&wanted, &chars);
        if distance <= limit && best.is_none_or(|(found, text)| (distance, candidate) < (found, text)) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

const MAX_LENGTH: usize = 128;

/// The optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_candidate_or_none() {
        let check = |name: &str, expected: Option<&str>| {
            let candidates = ["contains", "startswith", "endswith", "exists", "re", "cidr", "lt", "lte", "i"];
            assert_eq!(suggest(name, candidates), expected, "{name}");
        };
        check("contain", Some("contains"));
        check("Contains", Some("contains"));
        check("starstwith", Some("startswith"));
        check("exist", Some("exists"));
        check("rex", Some("re"));
        check("ltt", Some("lt"));
        check("frobnicate", None);
        check("x", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}
