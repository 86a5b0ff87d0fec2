//! auditwatch reads Kubernetes audit logs and tells what was done to the cluster: Sigma rules over single events, and
//! Sigma correlations over event-time windows. This page is the pipeline; the modules below stand in its order.
//!
//! ```text
//!  source       worker × N                                       pipeline's own thread               sink
//! ┌────────┐   ┌───────────┐       ┌────────┐  matches,  ┌──────────┐          ┌─────────┐        ┌────────┐
//! │ blocks │──▶│ normalize │──────▶│ match  │───────────▶│ put back │─────────▶│ windows │───────▶│ render │
//! │ of 256 │   │ documents │ Event │ index, │   counts   │ in order │  Match   │ reorder │ Firing │ JSON,  │
//! │ KiB    │   │ in bytes  │       │ program│ per batch  │ of batch │          │ dedupe  │ Alert  │ table… │
//! └────────┘   └───────────┘       └────────┘            └──────────┘          └─────────┘        └────────┘
//! ```
//!
//! 1. [`source`] reads inputs in blocks that end where lines end, the input that is furthest behind first, so that the
//!    logs of several API servers become one stream. It undoes compression, and knows nothing of events.
//! 2. [`normalize`] finds the documents in a block. Each becomes events, or a problem with its place; none hides another.
//! 3. [`event`] is the view of one event: a structural index over its bytes, members located, bodies left alone until a
//!    rule asks; and the derived fields `k8s.*`, which hold the Kubernetes knowledge.
//! 4. [`rules`] turns rule files into a [`rules::RuleSet`]: conditions in one expression language, whatever the dialect,
//!    and every problem of every file with line and column.
//! 5. [`engine`] compiles the rules to a program with an index, judges conditions (true, false, *unknown*), and folds
//!    matches into event-time windows.
//! 6. [`worker`] is steps 2 to 5 for one batch: a pure function that any number of threads may run.
//! 7. [`alert`] makes what a user reads from what fired, with an id that is the same in every run.
//! 8. [`journal`] keeps what a daemon must not forget: positions, matches and alerts, committed together.
//!    [`distributed`] is the same for many machines: windows owned by the partitions of a topic.
//! 9. [`sink`] renders alerts and writes them; [`metrics`] counts, and [`admin`] tells the counts to whoever scrapes them.
//! 10. [`pipeline`] owns the threads, the bounded channels between them, and the order in which results count.
//!
//! [`kafka`] is what everything shares that talks to Kafka. [`config`] turns what was typed into what was meant, and [`cli`] is one file per subcommand.
//!
//! `event`, `normalize`, `rules`, `engine`, `worker` and `alert` are the *core*: bytes in, values and counts out. They
//! touch no file, socket, clock, environment or thread; `clippy.toml` and `tests/tidy.rs` hold it. `ARCHITECTURE.md`
//! tells why things are as they are, and what must always hold.
//!
//! # One event through the core
//!
//! ```
//! use std::sync::Arc;
//! use auditwatch::engine::program::Program;
//! use auditwatch::rules::{self, SourceFile};
//! use auditwatch::source::Batch;
//! use auditwatch::worker::{Worker, WorkerSettings};
//!
//! let rule = "
//! title: Exec into a pod
//! logsource: {product: kubernetes, service: audit}
//! detection:
//!   selection: {objectRef.resource: pods, objectRef.subresource: exec}
//!   condition: selection
//! ";
//! let file = SourceFile::new("exec.yml", rule);
//! let (set, diagnostics) = rules::load(&[file], &Default::default());
//! assert!(diagnostics.is_empty());
//!
//! let mut worker = Worker::new(Arc::new(Program::compile(Arc::new(set))?), WorkerSettings::default());
//! let line = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a-1",
//!     "stage":"ResponseStarted","verb":"create","requestURI":"/api/v1/namespaces/shop/pods/db-0/exec",
//!     "user":{"username":"mallory"},"objectRef":{"resource":"pods","subresource":"exec","name":"db-0"},
//!     "responseStatus":{"code":101},"stageTimestamp":"2026-11-23T19:30:29.041592Z"}"#;
//! let result = worker.process(&Batch { bytes: line.to_vec(), ..Batch::default() });
//!
//! assert_eq!(result.counts.events, 1);
//! assert_eq!(&*result.matches[0].trace.excerpt().username, "mallory");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

// In the order of the pipeline; rustfmt would sort them if they stood together.
pub mod kafka;

pub mod source;

pub mod normalize;

pub mod event;

pub mod rules;

pub mod engine;

pub mod worker;

pub mod alert;

pub mod journal;

pub mod distributed;

pub mod sink;

pub mod metrics;

pub mod admin;

pub mod pipeline;

pub mod ruletest;

pub mod config;

pub mod cli;
