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
    out
}
