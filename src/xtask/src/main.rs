//! `cargo xtask`: what a developer does with this project.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, cluster, demo, e2e, generate, images, progress, test};

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
    /// Show everything at work: a local cluster, the operator, a customer with three connections and their orders.
    Demo(demo::Arguments),
    /// Build the images of all programs into target/images.
    Images {
        /// Registry and path before the images' names.
        #[arg(long, default_value = "marketrelay.dev")]
        prefix: String,
        /// Optimised, as they are published.
        #[arg(long)]
        release: bool,
    },
    /// Write what is generated: definitions, the chart's copies, manifests/install, docs/api.
    Generate(generate::Arguments),
    /// Run the tests that need a whole cluster, in a cluster of their own.
    E2e(e2e::Arguments),
    /// Measure what docs/benchmarks.md shows; without a name everything.
    Bench {
        /// One figure.
        figure: Option<bench::Figure>,
    },
    /// Run every check and test; what CI runs.
    Test,
}

fn main() -> ExitCode {
    progress::start();
    let result = match Arguments::parse().command {
        Command::Cluster(command) => cluster::run(command),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Images { prefix, release } => images::build(&prefix, Some(images::TAG), release).map(drop),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::E2e(arguments) => e2e::run(&arguments),
        Command::Bench { figure } => bench::run(figure),
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
