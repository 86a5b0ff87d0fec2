//! The engine: rules compiled to a program with an index, the matcher, and event-time windows.

mod addresses;
mod block;
mod bodies;
mod branches;
pub mod captures;
pub mod condition;
pub mod excerpt;
pub mod explain;
mod facets;
pub mod index;
mod keywords;
pub mod lookup;
pub mod matches;
pub mod necessary;
mod needed;
mod needles;
mod networks;
mod patterns;
mod pods;
pub mod program;
pub mod sightings;
pub mod text;
pub mod trace;
pub mod window;
mod words;

pub use captures::CaptureTable;
