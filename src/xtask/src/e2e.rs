//! `cargo xtask e2e`: the tests that need a whole cluster.

use std::{panic::resume_unwind, process::Command, thread};

use clap::Args;
use snafu::ensure_whatever;

use crate::{cluster, progress::step, run::Result, stage, test::harness};

const CLUSTER: &str = "e2e";
/// The one that is lost.
const LOSABLE: &str = "lost";
/// Tests that run side by side; each has relays of its own.
const SIDE_BY_SIDE: &str = "8";
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
    match filter {
        Some(filter) if LOST.starts_with(filter) => on_cluster(LOSABLE, keep, lost),
        Some(filter) => {
            on_cluster(CLUSTER, keep, || test(CLUSTER, "", &[filter, "--skip", LOST], SIDE_BY_SIDE))
        }
        None => on_cluster(CLUSTER, keep, || all(keep)),
    }
}

fn on_cluster(cluster: &str, keep: bool, tests: impl FnOnce() -> Result<(u64, u64)>) -> Result<(u64, u64)> {
    let result = stage::local(cluster)
        .and_then(|(kube, images)| stage::up(&kube, &images, Some(cluster)))
        .and_then(|()| tests());
    if keep {
        step(format!("the cluster stays: eval \"$(cargo xtask cluster env {cluster})\""));
    } else {
        cluster::down(cluster)?;
    }
    result
}

/// Those that disturb others wait for them: beside each other they would only wait for a lock. They leave the machine time for
/// another cluster, which is lost meanwhile.
fn all(keep: bool) -> Result<(u64, u64)> {
    let together = test(CLUSTER, "", &["--skip", ALONE, "--skip", LOST], SIDE_BY_SIDE)?;
    let (alone, lost) = thread::scope(|scope| {
        let lost = scope.spawn(|| on_cluster(LOSABLE, keep, lost));
        let alone = test(CLUSTER, "", &[ALONE], "1");
        (alone, lost.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    Ok(sum([together, alone?, lost?]))
}

fn sum<const COUNT: usize>(results: [(u64, u64); COUNT]) -> (u64, u64) {
    results.iter().fold((0, 0), |sum, result| (sum.0 + result.0, sum.1 + result.1))
}

/// In the order of docs/runbooks/lost-cluster.md: the keys are there before the operator.
fn lost() -> Result<(u64, u64)> {
    let of = |part: &str| test(LOSABLE, "lost  ", &[&format!("{LOST}{part}")], "1");
    let before = of("before")?;
    if before.1 > 0 {
        return Ok(before);
    }
    step("the cluster is lost");
    cluster::lose(LOSABLE)?;
    let (kube, images) = stage::local(LOSABLE)?;
    let keys = of("keys")?;
    stage::up(&kube, &images, Some(LOSABLE))?;
    Ok(sum([before, keys, of("after")?]))
}

fn test(cluster: &str, label: &str, which: &[&str], threads: &str) -> Result<(u64, u64)> {
    step(format!("e2e tests {}", which.join(" ")));
    let mut cargo = Command::new(env!("CARGO"));
    // Of the whole workspace, so that dependencies have the features that they were built with.
    cargo.args(["test", "--workspace", "--test", "e2e", "--"]).args(which);
    cargo.arg(format!("--test-threads={threads}")).env("MARKETRELAY_E2E_CLUSTER", cluster);
    harness(&mut cargo, label)
}
