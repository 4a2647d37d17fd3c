//! `cargo xtask e2e`: the tests that need a whole cluster.

use std::process::Command;

use clap::Args;
use snafu::ensure_whatever;

use crate::{cluster, progress::step, run::Result, stage, test::harness};

const CLUSTER: &str = "e2e";
/// Tests that run side by side; each has relays of its own.
const SIDE_BY_SIDE: &str = "6";
/// What the names of tests that disturb others begin with.
const ALONE: &str = "alone::";
/// What the names of those begin with between which the cluster is lost.
const LOST: &str = "lost::";

/// `cargo xtask e2e …`
#[derive(Args)]
pub struct Arguments {
    /// Only tests whose names contain this.
    filter: Option<String>,
    /// Leave the cluster running, for a look at it or for another run.
    #[arg(long)]
    keep: bool,
}

/// Runs them; fails if one fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (passed, failed) = tests(arguments.filter.as_deref(), arguments.keep)?;
    println!("{passed} passed, {failed} failed");
    ensure_whatever!(failed == 0, "{failed} failed");
    Ok(())
}

/// Numbers of passed and failed tests.
pub fn tests(filter: Option<&str>, keep: bool) -> Result<(u64, u64)> {
    let result = stage::local(CLUSTER)
        .and_then(|(kube, images)| stage::up(&kube, &images, Some(CLUSTER)))
        .and_then(|()| run_tests(filter));
    if keep {
        step(format!("the cluster stays: eval \"$(cargo xtask cluster env {CLUSTER})\""));
    } else {
        cluster::down(CLUSTER)?;
    }
    result
}

/// Those that disturb others wait for them: beside each other they would only wait for a lock.
fn run_tests(filter: Option<&str>) -> Result<(u64, u64)> {
    match filter {
        Some(filter) if LOST.starts_with(filter) => return lost(),
        Some(filter) => return test(&[filter, "--skip", LOST], SIDE_BY_SIDE),
        None => {}
    }
    let together = test(&["--skip", ALONE, "--skip", LOST], SIDE_BY_SIDE)?;
    Ok(sum([together, test(&[ALONE], "1")?, lost()?]))
}

fn sum<const COUNT: usize>(results: [(u64, u64); COUNT]) -> (u64, u64) {
    results.iter().fold((0, 0), |sum, result| (sum.0 + result.0, sum.1 + result.1))
}

/// In the order of docs/runbooks/lost-cluster.md: the keys are there before the operator.
fn lost() -> Result<(u64, u64)> {
    let of = |part: &str| test(&[&format!("{LOST}{part}")], "1");
    let before = of("before")?;
    if before.1 > 0 {
        return Ok(before);
    }
    step("the cluster is lost");
    cluster::lose(CLUSTER)?;
    let (kube, images) = stage::local(CLUSTER)?;
    let keys = of("keys")?;
    stage::up(&kube, &images, Some(CLUSTER))?;
    Ok(sum([before, keys, of("after")?]))
}

fn test(which: &[&str], threads: &str) -> Result<(u64, u64)> {
    step(format!("e2e tests {}", which.join(" ")));
    let mut cargo = Command::new(env!("CARGO"));
    // Of the whole workspace, so that dependencies have the features that they were built with.
    cargo.args(["test", "--workspace", "--test", "e2e", "--"]).args(which);
    cargo.arg(format!("--test-threads={threads}")).env("MARKETRELAY_E2E_CLUSTER", CLUSTER);
    harness(&mut cargo)
}
