//! Tests that disturb all others: they kill the operator, fail a marketplace, count writes. They run one after another,
//! after the others.

mod closure;
mod erasure;
mod lifecycle;
mod notices;
pub mod operator;
mod outage;
mod rollout;
mod steady;
