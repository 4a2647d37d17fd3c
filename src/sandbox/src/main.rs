//! The sandbox as a program.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use marketrelay_sandbox::{Config, serve};
use tokio::{net::TcpListener, signal::unix::SignalKind};

/// Simulates Amazon, eBay, Bol.com and a customer's system for demos and tests. Not for production.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration: accounts, customers, control token (YAML).
    #[arg(long)]
    config: PathBuf,
    /// Certificate chain, PEM.
    #[arg(long)]
    tls_certificate: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    tls_key: PathBuf,
    /// Address and port of the HTTPS server.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: String,
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config: Config = serde_yaml::from_str(&fs::read_to_string(&arguments.config)?)?;
    let certificate = fs::read_to_string(&arguments.tls_certificate)?;
    let key = fs::read_to_string(&arguments.tls_key)?;
    let listener = TcpListener::bind(&arguments.listen).await?;
    tracing::info!(listen = %arguments.listen, accounts = config.accounts.len(), "serving");
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        served = serve(&config, listener, &certificate, &key) => served?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().json().init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
