//! `cargo xtask bench`: the figures of docs/benchmarks.md.

use std::process::Command;

use clap::ValueEnum;

use crate::{
    cluster, paths,
    progress::step,
    run::{Result, inherit},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Orders per second of a relay, against bare SQLite.
    Ingest,
    /// Resident memory of an idle relay.
    Idle,
    /// 200 connections' children, against a bare client.
    Convergence,
    /// Resident memory of the operator.
    Memory,
    /// How long after their time the keys of 1,000 keyrings die.
    Keys,
    /// Backups and restores, against restic.
    Backup,
}

/// Measures one or all, with programs built as they are published.
pub fn run(figure: Option<Figure>) -> Result<()> {
    let wanted = |figures: &[Figure]| figure.is_none_or(|figure| figures.contains(&figure));
    step("release build");
    cargo(&["build", "--release", "--workspace", "--bins"])?;
    if wanted(&[Figure::Ingest]) {
        cargo(&["bench", "--package", "marketrelay-relay", "--bench", "ingest"])?;
    }
    if wanted(&[Figure::Idle]) {
        cargo(&["bench", "--package", "marketrelay-relay", "--bench", "idle"])?;
    }
    for (figure, name) in
        [(Figure::Convergence, "convergence"), (Figure::Memory, "memory"), (Figure::Keys, "keys")]
    {
        if wanted(&[figure]) {
            cargo(&["bench", "--workspace", "--bench", "operator", "--", name])?;
        }
    }
    if wanted(&[Figure::Backup]) {
        cluster::require(&[("/usr/bin/restic", "restic")])?;
        // What is measured are the programs that were built before.
        cargo(&["bench", "--profile", "dev", "--workspace", "--bench", "restic"])?;
    }
    Ok(())
}

fn cargo(words: &[&str]) -> Result<()> {
    step(format!("cargo {}", words.join(" ")));
    inherit(Command::new(env!("CARGO")).args(words).current_dir(paths::checkout()))
}
