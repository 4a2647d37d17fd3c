//! `cargo xtask`: what a developer does with this project.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{cluster, progress, test};

/// marketrelay's development commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Real Kubernetes clusters on this machine.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Run every check and test; what CI runs.
    Test,
}

fn main() -> ExitCode {
    progress::start();
    let result = match Arguments::parse().command {
        Command::Cluster(command) => cluster::run(command),
        Command::Test => test::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
