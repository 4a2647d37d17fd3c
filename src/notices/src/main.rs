//! The receiver as a program.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use marketrelay_notices::run::{Surroundings, run};
use marketrelay_pod::{logging, termination};
use snafu::{ResultExt, Whatever};
use tokio::net::TcpListener;

/// Receives eBay's notices of deleted accounts and hands them to the operator. Started by the chart.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder that the mounted paths are below.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// Address and port of the endpoint.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: String,
    /// The operator's address and port, in place of what DNS says.
    #[arg(long)]
    operator: Option<std::net::SocketAddr>,
}

async fn serve(arguments: Arguments) -> Result<(), Whatever> {
    let Arguments { root, listen, operator } = arguments;
    let listener = TcpListener::bind(&listen)
        .await
        .with_whatever_context(|error| format!("can't listen on {listen}: {error}"))?;
    let stop = termination::token().whatever_context("can't wait for SIGTERM")?;
    run(Surroundings { root, listener, operator }, stop).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start();
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the receiver can't go on");
            ExitCode::FAILURE
        }
    }
}
