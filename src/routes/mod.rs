//! What we run on: the route table, immutable, compiled from the configuration.
//!
//! [`compile`] alone sees both the operator's words and the running types. [`plan`] is what the
//! words mean, [`table`] is a plan joined with live state, and [`index`] finds a request's route.

pub mod back;
pub mod certificate;
pub mod compile;
pub mod grammar;
pub mod index;
pub mod pattern;
pub mod plan;
pub mod rewrite;
pub mod rule;
pub mod table;
pub mod tree;
pub mod words;
