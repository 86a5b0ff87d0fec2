//! What the detections cover, as a page: its numbers come from the rules, what audit logs cannot show from here.

use std::fmt::Write;

use super::{Entry, cell, level_name};
use crate::event::catalogue::AuditLevel;

/// What audit logs cannot show, by area.
const UNSEEN: [(&str, &str); 13] = [
    (
        "admission",
        "decisions that allowed a request; results of audit modes that nobody writes down as annotations or reports",
    ),
    ("audit-trail", "requests that the policy leaves out, batches that were lost, flags of a managed API server"),
    (
        "authentication",
        "which account a failed login (401) was for; failed TLS handshakes; logins at the identity provider",
    ),
    ("behaviour", "processes, files and sockets in containers; tokens used outside of the API server"),
    ("control-plane", "files and flags of the nodes, requests sent straight to a kubelet or to etcd"),
    ("identity-providers", "the login itself, second factors, wrong passwords"),
    ("images", "what an image holds, the digest that was really pulled, pushes to a registry, scans kept elsewhere"),
    ("network", "any packet; whether the network plugin enforces a policy; policies held outside of the API"),
    ("pod-security", "what the runtime applied; the user that an image names; settings of a node"),
    ("rbac", "rights given by webhooks; who is in a group of the identity provider; grants older than the log"),
    ("runtime", "agents stopped on their node; what agents find themselves; whether a sandbox is really used"),
    ("secrets", "encryption at rest, rotation of keys, files read in a pod, reads in Vault or a cloud's store"),
    ("workloads", "what is typed into an interactive shell; what a workload consumes"),
];

/// What no rule says, with the reason: single events, counts, sequences, new values and absences do not express it.
const UNSAID: [(&str, &str, &str); 10] = [
    ("AUD-002", "one API server of several falls silent", "an event does not say which server wrote it"),
    ("AUD-005", "requests that begin and never end", "a wait for every request would hold more than all other rules"),
    (
        "AUD-009",
        "clocks that are wrong, events dated back",
        "needs the time of arrival; lateness is counted, not alerted",
    ),
    (
        "AUD-R1",
        "which detections a policy blinds",
        "a report: the audit levels on this page, and the unknowns of the summary",
    ),
    ("AUTHN-017", "share of failed logins", "a ratio; 200 failures in five minutes stand in for it"),
    ("RBAC-R1", "who did what: the access review", "a report over months, not an alert"),
    ("RBAC-R2", "rights that nobody uses", "a report: needs the roles and bindings that exist"),
    ("RBAC-R3", "identities that do nothing", "a silence of months; windows reach a day back, new values 90 days"),
    (
        "RT-008",
        "a service account's rate against its own past",
        "a baseline; RT-007 tells of new kinds of requests, CP-007 of floods",
    ),
    ("SEC-R1", "age of each secret", "a report; the migration of encrypted secrets is recorded"),
];

/// Levels and conditions that are milder than they might be, with the reason.
const MILDER: [(&str, &str); 15] = [
    ("ADM-001", "a webhook changed by a program in a pod is BEH-010, low: operators renew their certificates all day"),
    ("ADM-012", "low: told per place in the order of webhooks, and a new one moves the others"),
    ("AUD-001", "medium: silence of two leases, not of everything, so that other events prove the log alive"),
    ("BEH-006", "four kinds of alerts within a day, not five single rules: one bad pod sets off five by itself"),
    ("IMG-004", "informational: releases bring images, and tags are not told from repositories"),
    ("IMG-008", "low: clusters that are operated by hand switch images by hand"),
    ("NET-001", "deletions by a program in a pod are BEH-010, low: delivery tools prune"),
    ("NET-004", "informational: many clusters keep policies for all namespaces in one place"),
    ("RBAC-003", "low where a namespace's `admin` goes to groups only: so teams are taken in"),
    ("RBAC-010", "roles and bindings of a program in a pod are BEH-010, low; their contents are judged as anybody's"),
    ("RT-006", "low: some agents ask seldom"),
    ("RBAC-004", "low where the wildcard reaches no further than the API groups of one product"),
    ("SEC-010", "medium for ConfigMaps: words such as password stand in many configurations"),
    ("WL-017", "low for one release taken back by Helm, high from sixty objects on; pods and jobs count from forty on"),
    ("WL-003", "medium in kube-system and the site's sensitive namespaces, low elsewhere"),
];

/// `docs/coverage.md`.
pub(super) fn page(all: &[Entry]) -> String {
    let mut out = String::from(
        "# What is detected\n\n\
         Written by `auditwatch rules coverage`; a test keeps it and the rules together. The audit level is the lowest at which a\n\
         detection can fire: a policy that logs less makes it blind.\n",
    );
    let bodies = all.iter().filter(|entry| entry.needs > AuditLevel::Metadata).count();
    let _ = writeln!(out, "\n{} detections, {bodies} of which need the bodies of requests.", all.len());
    for part in all.chunk_by(|a, b| a.area() == b.area()) {
        let area = part[0].area();
        let _ = writeln!(out, "\n## {}\n", cell(area));
        if let Some((_, unseen)) = UNSEEN.iter().find(|(name, _)| *name == area) {
            let _ = writeln!(out, "Not to be seen in audit logs: {unseen}.\n");
        }
        out += "| id | level | audit level | detection |\n|---|---|---|---|\n";
        for entry in part {
            let (level, needs, title) = (level_name(entry.meta.level), entry.needs.as_str(), cell(&entry.meta.title));
            let _ = writeln!(out, "| {} | {level} | {needs} | {title} |", cell(entry.short()));
        }
    }
    out + &unsaid()
}

/// The end of the page: what is left out or told more quietly, and why.
fn unsaid() -> String {
    let mut out = String::from("\n# Not said by rules\n\n| id | what | why not |\n|---|---|---|\n");
    for (id, what, why) in UNSAID {
        let _ = writeln!(out, "| {id} | {what} | {why} |");
    }
    out += "\n# Told more quietly\n\n| id | how, and why |\n|---|---|\n";
    for (id, why) in MILDER {
        let _ = writeln!(out, "| {id} | {why} |");
    }
    out
}
