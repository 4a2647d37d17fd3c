//! The relay as a program.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use marketrelay_api::relay::paths::NO_DATABASE;
use marketrelay_relay::{
    audit,
    clock::Clock,
    held, logging,
    missing::missing,
    run::{Surroundings, run},
    termination,
};
use snafu::{ResultExt, Whatever};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

/// Threads for what blocks: looking up names.
const BLOCKING_THREADS: usize = 4;
/// A name server that doesn't answer doesn't hold up the end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Collects the orders of one marketplace account, stores them and delivers them. Started by the operator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder that the mounted paths are below.
    #[arg(long, global = true, default_value = "/")]
    root: PathBuf,
    /// Address and port of the admin API.
    #[arg(long, default_value = "0.0.0.0:9443")]
    listen: String,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be done beside a relay that runs.
#[derive(Subcommand)]
enum Command {
    /// Shows the orders that a hold keeps, one JSON object a line. The pod's log says that it was read.
    Held(held::Question),
    /// Export or verify an audit log.
    #[command(subcommand)]
    Audit(audit::cli::Command),
}

impl Command {
    fn run(self, root: &Path) -> Result<(), Whatever> {
        match self {
            Self::Held(question) => held::show(root, &question, &mut io::stdout().lock(), Timestamp::now()),
            Self::Audit(command) => command.run(root),
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), Whatever> {
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .with_whatever_context(|error| format!("can't listen on {}: {error}", arguments.listen))?;
    let stop = termination::token().whatever_context("can't wait for SIGTERM")?;
    run(Surroundings { root: arguments.root, listener, clock: Clock::system() }, stop).await
}

fn runtime() -> Result<Runtime, Whatever> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    runtime.whatever_context("can't start")
}

/// The exit code of a relay that must not begin.
fn unable(root: &Path) -> Option<ExitCode> {
    let (error, code) = match missing(root) {
        Ok(None) => return None,
        Ok(Some(what)) => (what, ExitCode::from(NO_DATABASE)),
        Err(error) => (error.to_string(), ExitCode::FAILURE),
    };
    tracing::error!(error, "the relay can't begin");
    Some(code)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(command) = arguments.command.take() {
        return match command.run(&arguments.root) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    logging::start();
    if let Some(code) = unable(&arguments.root) {
        return code;
    }
    let ended = runtime().and_then(|runtime| {
        let ended = runtime.block_on(serve(arguments));
        runtime.shutdown_timeout(LAST_WAIT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the relay can't go on");
            ExitCode::FAILURE
        }
    }
}
