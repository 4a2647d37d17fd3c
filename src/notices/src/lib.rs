//! Receives eBay's notices that somebody closed their account, checks who sent them, and hands them to the operator. Knows no
//! Kubernetes, keeps nothing: whom a notice names is in its memory alone, until the operator has it.

pub mod challenge;
pub mod keys;
pub mod metrics;
pub mod notice;
pub mod operator;
pub mod receiver;
pub mod run;
pub mod settings;
pub mod signature;
