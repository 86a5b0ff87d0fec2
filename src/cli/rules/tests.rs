use super::*;

fn built_in() -> Vec<Entry> {
    let loaded = engine::load(rule_files::collect(&[], &[]).unwrap(), &Site::default());
    assert!(loaded.errors.is_empty(), "{:#?}", loaded.errors);
    entries(&loaded.rules)
}

fn text(write: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_page_of_coverage_is_that_of_the_rules() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/coverage.md")).unwrap_or_default();
    assert!(page == coverage::page(&built_in()), "write it anew: auditwatch rules coverage > docs/coverage.md");
}

#[test]
fn every_area_says_what_cannot_be_seen() {
    let page = coverage::page(&built_in());
    let count = |start: &str| page.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("## "), count("Not to be seen in audit logs: "), "an area is missing in UNSEEN");
}

/// Every list that a detection asks for is told in the page for sites.
#[test]
fn lists_of_a_site_are_documented() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/site.md")).unwrap_or_default();
    let list = regex::Regex::new("%([a-z_]+)%").unwrap();
    for file in rule_files::collect(&[], &[]).unwrap() {
        for found in list.captures_iter(&file.text) {
            assert!(page.contains(&format!("| `{}` |", &found[1])), "docs/site.md does not tell of {}", &found[1]);
        }
    }
}

#[test]
fn packs() {
    let all = built_in();
    let of = |pack: Pack| all.iter().filter(|entry| pack.holds(&entry.meta)).count();
    assert_eq!(of(Pack::Extended), all.len());
    assert!(0 < of(Pack::PssRestricted) && of(Pack::PssRestricted) < of(Pack::Core));
    assert!(
        all.iter().filter(|entry| Pack::Core.holds(&entry.meta)).all(|entry| entry.meta.level != Level::Informational)
    );
    assert!(of(Pack::Compliance) > 100);
}

#[test]
fn shapes() {
    let all = built_in();
    assert_eq!(text(|out| table(out, &all).unwrap()).lines().count(), all.len());
    assert_eq!(text(|out| markdown(out, &all).unwrap()).lines().count(), all.len() + 2);
    assert!(text(|out| show(out, &all, "sec-001").unwrap()).contains("needs audit level Metadata"));
    let error = show(&mut Vec::new(), &all, "SEC-0021").unwrap_err().to_string();
    assert!(error.contains("did you mean SEC-00"), "{error}");
}

#[test]
fn audit_levels() {
    let all = built_in();
    let level = |name: &str| all.iter().find(|entry| entry.meta.name.as_deref() == Some(name)).map(|entry| entry.needs);
    assert_eq!(level("secret_list_wide"), Some(AuditLevel::Metadata));
    assert_eq!(level("privilege_escalation_allowed"), Some(AuditLevel::Request));
    assert_eq!(level("first_seen_image"), Some(AuditLevel::Request));
}
