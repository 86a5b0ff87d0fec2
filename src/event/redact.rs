//! What must never leave the process: tokens, keys and the contents of secrets. Every text that goes into an alert or
//! a captured value passes here, where it is cut out of the event.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Longest text kept of one value, in bytes; what is longer is cut and marked.
pub const TEXT_MAX: usize = 1024;

/// Tokens and keys by their shape: JWTs (three base64url parts, the first two JSON), bearer values, `token=`-like
/// parameters, PEM keys, and well-known prefixes of access keys.
static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",
        r"|(?i:(?:bearer|basic)(?:\s|%20|\+|:|=)+)[A-Za-z0-9._~+/=%-]{6,}",
        r#"|(?i:(?:access_?token|id_?token|refresh_?token|auth_?token|token|password|passwd|pwd|secret|api_?key|apikey|client_?secret|authorization|x-amz-security-token|x-amz-signature|sig)(?:=|%3D|"\s*:\s*"|%22%3A%22))[^&\s"'%,;]{3,}"#,
        r"|-----BEGIN[A-Z0-9 +%]{0,40}PRIVATE[ +%20]{1,3}KEY[\s\S]*",
        r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"|\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abposr]-[A-Za-z0-9-]{10,}|k8s-aws-v1\.[A-Za-z0-9_-]{20,})",
        r"|\b[a-z0-9]{6}\.[a-z0-9]{16}\b",
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// Bytes that every pattern above needs at least one of; most texts have none and are done in one look.
static HINTS: LazyLock<aho_corasick::AhoCorasick> = LazyLock::new(|| {
    aho_corasick::AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build([
            "eyJ",
            "bearer",
            "basic",
            "token",
            "passw",
            "pwd",
            "secret",
            "key",
            "authorization",
            "x-amz",
            "sig=",
            "sig%",
            "-----BEGIN",
            "akia",
            "asia",
            "gh",
            "glpat",
            "xox",
            "k8s-aws",
            ".",
        ])
        .expect("constant patterns, compiled by the tests")
});

/// A text as it may be shown: secrets by their shape replaced, cut to [`TEXT_MAX`] bytes.
pub fn text(raw: &str) -> Cow<'_, str> {
    let cut = cut(raw, TEXT_MAX);
    if !may_hold_secret(cut.as_bytes()) || !HINTS.is_match(cut.as_ref()) {
        return cut;
    }
    replace(cut)
}

fn replace(cut: Cow<'_, str>) -> Cow<'_, str> {
    match SHAPES.replace_all(&cut, |found: &regex::Captures<'_>| keep_name(&found[0])) {
        Cow::Borrowed(_) => cut,
        Cow::Owned(clean) => Cow::Owned(clean),
    }
}

/// Whether one of [`SHAPES`] may stand in the text: each has a byte that is rare in names and paths, with something known
/// around it. A wrong yes costs time only.
fn may_hold_secret(text: &[u8]) -> bool {
    // Regardless of case, letters outside of ASCII stand for some inside.
    text.iter().enumerate().any(|(at, byte)| RARE[*byte as usize] && (*byte >= 0x80 || is_sign(text, at, *byte)))
}

/// The bytes that [`is_sign`] looks at, and all that are not ASCII.
const RARE: [bool; 256] = {
    let mut rare = [false; 256];
    let bytes = b".=%\":+ \t\n\r\x0b\x0c_-JBI";
    let mut at = 0;
    while at < bytes.len() {
        rare[bytes[at] as usize] = true;
        at += 1;
    }
    at = 0x80;
    while at < 256 {
        rare[at] = true;
        at += 1;
    }
    rare
};

/// Whether the byte at `at` may belong to one of [`SHAPES`], by what stands around it.
fn is_sign(text: &[u8], at: usize, byte: u8) -> bool {
    let before = &text[..at];
    let word = |word: &str| {
        let start = before.len().checked_sub(word.len());
        start.is_some_and(|start| before[start..].eq_ignore_ascii_case(word.as_bytes()))
    };
    match byte {
        // A bootstrap token, or one of EKS.
        b'.' => {
            let token = |range: std::ops::Range<usize>| {
                text.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_alphanumeric))
            };
            (at >= 6 && token(at - 6..at) && token(at + 1..at + 17)) || before.ends_with(b"k8s-aws-v1")
        }
        b'J' => before.ends_with(b"ey"),
        b'B' => before.ends_with(b"-----"),
        b'I' => before.ends_with(b"AK") || before.ends_with(b"AS"),
        b'_' => before.ends_with(b"github_pat") || matches!(before, [.., b'g', b'h', _]),
        b'-' => before.ends_with(b"glpat") || matches!(before, [.., b'x', b'o', b'x', _]),
        // What stands between a name and its value.
        _ => match before.last().map(u8::to_ascii_lowercase) {
            Some(b'r') => word("bearer"),
            Some(b'c') => word("basic"),
            Some(b'n') => word("token") || word("authorization"),
            Some(b'd') => word("password") || word("passwd") || word("pwd"),
            Some(b't') => word("secret"),
            Some(b'y') => word("key"),
            Some(b'e') => word("signature"),
            Some(b'g') => word("sig"),
            _ => false,
        },
    }
}

/// Keeps the parameter's name (`token=`) in front of what is replaced.
fn keep_name(found: &str) -> String {
    let name =
        found.find(['=', ':', ' ', '+']).filter(|at| *at < 32 && !found.starts_with("eyJ")).map_or(0, |at| at + 1);
    let name = if found.starts_with("-----") { 0 } else { name };
    format!("{}{REDACTED}", &found[..name])
}

fn cut(raw: &str, max: usize) -> Cow<'_, str> {
    if raw.len() <= max {
        return Cow::Borrowed(raw);
    }
    let mut end = max;
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &raw[..end]))
}

/// Whether a field may hold the content of a secret, so that its values are never shown: a Secret's `data` and
/// `stringData`, the copy of them that `kubectl apply` leaves in an annotation, the token of a TokenRequest, the review
/// of a token.
pub fn is_secret_field(resource: &str, subresource: &str, field: &str) -> bool {
    // Asked at every captured value: each is one comparison of a length that is known.
    let is_body =
        field.starts_with("requestObject") || field.starts_with("responseObject") || field.starts_with("k8s.object");
    if !is_body {
        return false;
    }
    let segment = |name: &str| field.split(['.', '[', '"']).any(|part| part == name);
    match resource {
        "secrets" => {
            segment("data")
                || segment("stringData")
                || field.contains("last-applied-configuration")
                || !field.contains('.')
        }
        "serviceaccounts" => subresource == "token" && (segment("status") || segment("token")),
        "tokenreviews" => segment("spec") || segment("token"),
        _ => field.contains("last-applied-configuration"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl";

    #[test]
    fn shapes_of_secrets_are_replaced() {
        for (raw, shown) in [
            ("kubectl/v1.36.3 (linux/amd64)", "kubectl/v1.36.3 (linux/amd64)"),
            ("/api/v1/namespaces/a/secrets/b-token", "/api/v1/namespaces/a/secrets/b-token"),
            (JWT, "[redacted]"),
            (&format!("/x?command=curl&command={JWT}&container=a"), "/x?command=curl&command=[redacted]&container=a"),
            ("/x?command=Authorization:+Bearer+abcdef123456", "/x?command=Authorization:+Bearer+[redacted]"),
            (
                "/x?command=-H&command=Authorization%3A%20Bearer%20abcdefgh12345",
                "/x?command=-H&command=Authorization%3A%20[redacted]",
            ),
            ("/x?access_token=abcdef&limit=5", "/x?access_token=[redacted]&limit=5"),
            ("/x?command=mysql+--password=hunter2+db", "/x?command=mysql+--password=[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "[redacted]"),
            ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
            ("curl abcdef.0123456789abcdef", "curl [redacted]"),
        ] {
            assert_eq!(text(raw), shown, "{raw}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "é".repeat(TEXT_MAX);
        assert!(text(&long).len() <= TEXT_MAX + '…'.len_utf8());
        assert!(text(&long).ends_with('…'));
    }

    #[test]
    fn fields_with_secrets_are_known() {
        for (resource, subresource, field, secret) in [
            ("secrets", "", "requestObject.data.password", true),
            ("secrets", "", "responseObject.items.data", true),
            ("secrets", "", "requestObject.stringData.x", true),
            (
                "secrets",
                "",
                "requestObject.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
                true,
            ),
            ("secrets", "", "requestObject", true),
            ("secrets", "", "requestObject.type", false),
            ("secrets", "", "objectRef.name", false),
            ("serviceaccounts", "token", "responseObject.status.token", true),
            ("tokenreviews", "", "requestObject.spec.token", true),
            ("configmaps", "", "requestObject.data.x", false),
        ] {
            assert_eq!(is_secret_field(resource, subresource, field), secret, "{field}");
        }
    }

    /// Pieces of secrets and what may stand between them.
    fn pieces() -> impl proptest::strategy::Strategy<Value = String> {
        const PIECES: [&str; 64] = [
            "eyJ",
            "abcdefgh",
            ".",
            "abcd",
            "bearer",
            "Basic",
            "BEARER",
            "%20",
            "+",
            ":",
            "=",
            " ",
            "\t",
            "abcdef",
            "access_token",
            "id-token",
            "token",
            "Password",
            "passwd",
            "pwd",
            "secret",
            "api_key",
            "apikey",
            "ClientSecret",
            "authorization",
            "x-amz-security-token",
            "X-Amz-Signature",
            "sig",
            "%3D",
            "%3d",
            "\"",
            "%22%3A%22",
            "%22%3a%22",
            "xyz",
            "-----BEGIN",
            "RSA",
            "PRIVATE",
            "KEY",
            "AKIA",
            "ASIA",
            "IOSFODNN7EXAMPLE",
            "ghp",
            "_",
            "github_pat",
            "glpat",
            "-",
            "xoxb",
            "k8s-aws-v1",
            "0123456789abcdef",
            "abcdef.0123456789abcdef",
            "toKen",
            "\u{212a}",
            "\u{17f}",
            "ba\u{17f}ic",
            "to\u{212a}en",
            "pa\u{17f}swd",
            "é",
            "/",
            "&",
            ",",
            "system:",
            "1.31.2",
            "\u{b}",
            "0123456789ABCDEF0123",
        ];
        let piece = proptest::sample::select(PIECES.to_vec());
        proptest::strategy::Strategy::prop_map(proptest::collection::vec(piece, 0..9), |pieces| pieces.concat())
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(4096))]

        #[test]
        fn nothing_is_missed_by_a_quick_look(raw in pieces()) {
            let plain = if HINTS.is_match(&raw) { replace(Cow::Borrowed(&raw)) } else { Cow::Borrowed(raw.as_str()) };
            proptest::prop_assert_eq!(text(&raw), plain);
        }

        #[test]
        fn nothing_is_missed_in_what_the_shapes_describe(
            secret in proptest::string::string_regex(&SHAPES.as_str().replace("\\b", "")).expect("it compiles as a regex"),
            before in proptest::sample::select(vec!["", " ", "/", "x=", "é"]),
        ) {
            let raw = format!("{before}{secret}");
            let plain = if HINTS.is_match(&raw) { replace(cut(&raw, TEXT_MAX)) } else { cut(&raw, TEXT_MAX) };
            proptest::prop_assert_eq!(text(&raw), plain);
        }
    }
}
