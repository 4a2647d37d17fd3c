//! What the API server keeps: refusals with sentences that help, defaults, merging, columns. Needs Go for the first
//! build of the control plane; no root.

mod accepted;
mod changes;
mod kubectl;
mod merging;
mod operator;
mod refused;
mod samples;
mod status;
mod support;
