//! The operator as a program.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use kube::{Client, Config};
use marketrelay_api::OperatorConfig;
use marketrelay_operator::{
    audit,
    clock::Clock,
    run::{Clients, Settings, run},
    scope::Scope,
};
use marketrelay_pod::termination;
use snafu::{ResultExt, Whatever};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// Turns MarketplaceConnections and RetentionPolicies into running relays.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, default_value = "/etc/marketrelay/config.yaml")]
    config: PathBuf,
    /// Work on this namespace only; may be repeated. Without it: on all.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    /// Address and port of health and metrics.
    #[arg(long, default_value = "0.0.0.0:9443")]
    listen: String,
    /// The operator's own namespace, for its lease and certificates.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// This replica's name.
    #[arg(long, env = "POD_NAME")]
    identity: String,
}

/// The longest silence of the API server: watches are quiet for up to 290 s.
const SILENCE: Duration = Duration::from_secs(330);

async fn clients() -> Result<Clients, Whatever> {
    let mut config = Config::infer().await.whatever_context("no access to an API server")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let mut lease = config.clone();
    lease.default_retry = false;
    let client = |config| Client::try_from(config).whatever_context("the API server's client can't be made");
    Ok(Clients { work: client(config)?, lease: client(lease)? })
}

async fn serve(arguments: Arguments) -> Result<(), Whatever> {
    let path = arguments.config.display();
    let text = std::fs::read_to_string(&arguments.config)
        .with_whatever_context(|error| format!("can't read {path}: {error}"))?;
    let config = OperatorConfig::parse(&text).with_whatever_context(|error| format!("{path}: {error}"))?;
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .with_whatever_context(|error| format!("can't listen on {}: {error}", arguments.listen))?;
    let stop = termination::token().whatever_context("can't wait for SIGTERM")?;
    let namespaces = arguments.watch_namespaces.into_iter().map(Scope::Namespace);
    let mut scopes: Vec<_> = namespaces.collect();
    if scopes.is_empty() {
        scopes.push(Scope::All);
    }
    let Arguments { namespace, identity, .. } = arguments;
    let settings = Settings { config, namespace, identity, scopes, addresses: None, clock: Clock::system() };
    run(settings, clients().await?, listener, stop).await
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let audit = format!("{}=info", audit::TARGET).parse();
    let filter = filter.add_directive(audit.expect("a directive"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator can't go on");
            ExitCode::FAILURE
        }
    }
}
