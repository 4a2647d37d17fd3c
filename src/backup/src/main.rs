//! The Jobs of backups, and what a person does with backups outside the cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use marketrelay_api::backup::paths;
use marketrelay_backup::{
    cli, escrow,
    job::{Task, execute},
    purge,
    restore::{self, drill},
};
use marketrelay_pod::{logging, mounts::at, termination};
use serde::Serialize;
use snafu::{ResultExt, Whatever};
use tokio_util::sync::CancellationToken;

/// Backups of marketrelay's connections in S3 stores.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Command {
    /// Take a backup, prune, and report what is in the store. Started by the operator.
    Run(JobArguments),
    /// Prune, and report what is in the store. Started by the operator.
    Prune(JobArguments),
    /// Make the database of a relay's volume of a backup, while no relay runs on it. Started by the operator.
    RestoreVolume(JobArguments),
    /// Restore the newest backup into a database of its own, check that, and report. Started by the operator.
    Drill(JobArguments),
    /// Write a connection's escrowed keys, delete every older version of them, and report. Started by the operator.
    Escrow(JobArguments),
    /// Delete everything of a closed connection in its stores, and report what is left. Started by the operator.
    Purge(JobArguments),
    #[command(flatten)]
    ByHand(cli::Command),
}

#[derive(clap::Args)]
struct JobArguments {
    /// Folder that the mounted paths are below.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// For how long a store or a relay that doesn't answer is asked again, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    patience: u64,
}

async fn job(task: Task, arguments: &JobArguments) -> Result<ExitCode, Whatever> {
    let (patience, stop) = begin(arguments)?;
    let report = execute(task, &arguments.root, patience, &stop).await;
    tell(&arguments.root, &report)?;
    Ok(ended(report.failure.is_none()))
}

async fn restore_volume(arguments: &JobArguments) -> Result<ExitCode, Whatever> {
    let (patience, stop) = begin(arguments)?;
    let report = restore::execute(&arguments.root, patience, &stop).await;
    tell(&arguments.root, &report)?;
    Ok(ended(report.failure.is_none()))
}

async fn drill(arguments: &JobArguments) -> Result<ExitCode, Whatever> {
    let (patience, stop) = begin(arguments)?;
    let report = Box::pin(drill::execute(&arguments.root, patience, &stop)).await;
    tell(&arguments.root, &report)?;
    Ok(ended(report.failure.is_none()))
}

async fn escrow(arguments: &JobArguments) -> Result<ExitCode, Whatever> {
    let (patience, stop) = begin(arguments)?;
    let report = escrow::execute(&arguments.root, patience, &stop).await;
    tell(&arguments.root, &report)?;
    Ok(ended(report.failure.is_none()))
}

async fn purge(arguments: &JobArguments) -> Result<ExitCode, Whatever> {
    let (patience, stop) = begin(arguments)?;
    let report = purge::execute(&arguments.root, patience, &stop).await;
    tell(&arguments.root, &report)?;
    Ok(ended(report.is_clean()))
}

fn begin(arguments: &JobArguments) -> Result<(Duration, CancellationToken), Whatever> {
    logging::start();
    let stop = termination::token().whatever_context("can't wait for SIGTERM")?;
    Ok((Duration::from_secs(arguments.patience), stop))
}

fn ended(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// For the operator, which reads it from the pod's status.
fn tell(root: &Path, report: &impl Serialize) -> Result<(), Whatever> {
    let path = at(root, paths::TERMINATION);
    let text = serde_json::to_string(report).whatever_context("the report")?;
    tracing::info!(report = text, "ended");
    fs::write(&path, text).with_whatever_context(|error| format!("can't write {}: {error}", path.display()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(arguments) => job(Task::Run, &arguments).await,
        Command::Prune(arguments) => job(Task::Prune, &arguments).await,
        Command::RestoreVolume(arguments) => restore_volume(&arguments).await,
        Command::Drill(arguments) => drill(&arguments).await,
        Command::Escrow(arguments) => escrow(&arguments).await,
        Command::Purge(arguments) => purge(&arguments).await,
        Command::ByHand(command) => Box::pin(command.run()).await.map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
