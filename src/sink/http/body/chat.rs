//! Messages for people in a chat: the first alerts line by line, then a number.

use serde_json::{Value, json};

use super::text;

/// So many alerts are told one by one in a chat message; the rest is a number.
pub(super) const LINES_IN_CHAT: usize = 10;
/// Teams refuses cards of more than 28 KB.
const LINE_CHARS: usize = 1000;

pub(super) fn slack(alerts: &[Value]) -> Value {
    let line = |alert: &Value| {
        let (level, title) = (text(alert, "/rule/level"), quiet(text(alert, "/rule/title")));
        let (place, message) = (place(alert), text(alert, "/message"));
        format!("*{level}* {title}{}: {} ({})", quiet(&place), quiet(message), text(alert, "/time"))
    };
    // Nor does Slack fetch what a client of the cluster linked to.
    json!({"text": lines(alerts, line).join("\n"), "unfurl_links": false, "unfurl_media": false})
}

pub(super) fn teams(alerts: &[Value]) -> Value {
    let line = |alert: &Value| {
        let (level, title) = (text(alert, "/rule/level"), plain(text(alert, "/rule/title")));
        let (place, message) = (place(alert), plain(text(alert, "/message")));
        let line = format!("**{level}** {title}{}: {message} ({})", plain(&place), text(alert, "/time"));
        line.chars().take(LINE_CHARS).collect()
    };
    let block = |line: String| json!({"type": "TextBlock", "text": line, "wrap": true});
    let blocks: Vec<Value> = lines(alerts, line).into_iter().map(block).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": blocks,
            },
        }],
    })
}

fn place(alert: &Value) -> String {
    match text(alert, "/cluster") {
        "" => String::new(),
        cluster => format!(" in {cluster}"),
    }
}

fn lines(alerts: &[Value], line: impl Fn(&Value) -> String) -> Vec<String> {
    let mut lines: Vec<String> = alerts.iter().take(LINES_IN_CHAT).map(line).collect();
    if alerts.len() > LINES_IN_CHAT {
        lines.push(format!("and {} more", alerts.len() - LINES_IN_CHAT));
    }
    lines
}

/// Text that a client of the cluster chose must not mention a channel, make a link or break the line.
fn quiet(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The same for Markdown, as cards understand it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '`' | '<' | '>' | '!' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
