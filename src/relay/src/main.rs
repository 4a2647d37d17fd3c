//! The relay as a program.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use marketrelay_relay::{
    clock::Clock,
    run::{Surroundings, run},
};
use snafu::{ResultExt, Whatever};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Collects the orders of one marketplace account, stores them and delivers them. Started by the operator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder that the mounted paths are below.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// Address and port of the admin API.
    #[arg(long, default_value = "0.0.0.0:9443")]
    listen: String,
}

async fn serve(arguments: Arguments) -> Result<(), Whatever> {
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .with_whatever_context(|error| format!("can't listen on {}: {error}", arguments.listen))?;
    let stop = CancellationToken::new();
    let mut terminate =
        tokio::signal::unix::signal(SignalKind::terminate()).whatever_context("can't wait for SIGTERM")?;
    let asked = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        tracing::info!("asked to end");
        asked.cancel();
    });
    run(Surroundings { root: arguments.root, listener, clock: Clock::system() }, stop).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the relay can't go on");
            ExitCode::FAILURE
        }
    }
}
