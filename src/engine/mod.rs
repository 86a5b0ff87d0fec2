//! The engine: rules compiled to a program with an index, the matcher, and event-time windows.

pub mod captures;
pub mod matches;

pub use captures::CaptureTable;
