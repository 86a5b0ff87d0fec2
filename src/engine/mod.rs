//! The engine: rules compiled to a program with an index, the matcher, and event-time windows.

pub mod captures;
pub mod matches;
pub mod window;

pub use captures::CaptureTable;
