//! Bodies and headers that a user wrote as templates (Jinja).

use minijinja::{Environment, context};
use serde_json::{Value, json};

use super::Body;

/// The names of templates within an environment: the body, then headers by their number.
const BODY: &str = "body";
/// So many steps a template may take; then it is given up.
const FUEL: u64 = 1_000_000;
/// What it may make.
const BYTES_MAX: usize = 4 << 20;

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source:#}")]
pub struct TemplateError {
    /// `template`, or which header.
    what: String,
    /// What and where.
    source: minijinja::Error,
}

/// A body, if it is not the usual one, and the headers that hold something to fill in.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    has_body: bool,
    headers: Vec<String>,
}

impl Template {
    /// Reads the templates. Of the headers, those that hold none are not looked at.
    ///
    /// # Errors
    /// A template is wrong.
    pub fn new(body: Option<&str>, headers: &[(String, String)]) -> Result<Template, TemplateError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        // What is not there is a mistake in the template, and better told than left out.
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        let wrong = |what: &str| {
            let what = what.to_owned();
            move |source| TemplateError { what, source }
        };
        if let Some(body) = body {
            environment.add_template_owned(BODY, body.to_owned()).map_err(wrong("template"))?;
        }
        let mut names = Vec::new();
        for (name, value) in headers.iter().filter(|(_, value)| is_template(value)) {
            let key = format!("header {name}");
            environment.add_template_owned(key.clone(), value.clone()).map_err(wrong(&key))?;
            names.push(name.clone());
        }
        Ok(Template { environment, has_body: body.is_some(), headers: names })
    }

    pub(super) fn fill(&self, alerts: Vec<Value>, content_type: &str) -> Result<Body, String> {
        let first = alerts.first().cloned();
        let context = context! { alerts => &alerts, alert => first };
        let fill = |name: &str| {
            let template = self.environment.get_template(name).map_err(|error| error.to_string())?;
            template.render(&context).map_err(|error| format!("{name}: {error:#}"))
        };
        let text = if self.has_body { fill(BODY)? } else { json!({ "alerts": alerts }).to_string() };
        if text.len() > BYTES_MAX {
            return Err(format!("the template made {} bytes; at most {BYTES_MAX} are sent", text.len()));
        }
        let headers = self.headers.iter().map(|name| {
            // A header is one line, whatever an alert says.
            let value: String = fill(&format!("header {name}"))?.chars().filter(|c| !c.is_control()).collect();
            Ok((name.clone(), value))
        });
        let headers = headers.collect::<Result<_, String>>()?;
        Ok(Body { bytes: text.into_bytes(), content_type: content_type.to_owned(), headers })
    }
}

/// Whether a text holds something to fill in.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_an_alert_says() {
        let headers = [("x-rule".to_owned(), "{{ alert.rule }}".to_owned()), ("x-plain".to_owned(), "y".to_owned())];
        let body = "{\"n\":{{ alerts|length }},\"m\":{{ alert.message|tojson }}}";
        let template = Template::new(Some(body), &headers).unwrap();
        let filled =
            template.fill(vec![json!({"message": "a \"b\"", "rule": "r\nx: 1"}), json!({})], "text/plain").unwrap();
        assert_eq!(filled.bytes, br#"{"n":2,"m":"a \"b\""}"#);
        assert_eq!(filled.headers, [("x-rule".to_owned(), "rx: 1".to_owned())]);
        assert_eq!(filled.content_type, "text/plain");
        // Headers alone: the body is the usual one.
        let filled = Template::new(None, &headers).unwrap().fill(vec![json!({"rule": "r"})], "text/plain").unwrap();
        assert_eq!(filled.bytes, br#"{"alerts":[{"rule":"r"}]}"#);
        assert_eq!(filled.headers, [("x-rule".to_owned(), "r".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_told_and_does_not_run_away() {
        assert!(Template::new(Some("{{ alert. }}"), &[]).unwrap_err().to_string().starts_with("template: "));
        for body in [
            "{% for a in range(9000000) %}{% for b in range(9000000) %}x{% endfor %}{% endfor %}",
            "{{ alert.no.such }}",
        ] {
            let error = Template::new(Some(body), &[]).unwrap().fill(vec![json!({})], "").unwrap_err();
            assert!(error.starts_with("body: "), "{error}");
        }
    }
}
