//! A control plane with simulated nodes, and the operator.

use std::{net::SocketAddr, sync::Arc};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use marketrelay_api::OperatorConfig;
use marketrelay_operator::{
    clock::Clock,
    run::{Clients, Settings, run},
    scope::Scope,
};
use snafu::Whatever;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use xtask::cluster::{ControlPlane, Simulation};

use crate::installed::{SYSTEM, install};

const NODES: usize = 10;

pub struct Plane {
    pub servers: ControlPlane,
    config: Config,
    pub client: Client,
}

impl Plane {
    pub async fn start() -> Self {
        let stages = include_str!("../cluster/manifests/stages.yaml").to_owned();
        let servers = ControlPlane::with_simulated_nodes(Simulation { nodes: NODES, stages });
        let servers = servers.expect("a control plane with simulated nodes");
        let kubeconfig = Kubeconfig::read_from(&servers.kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
        let client = Client::try_from(config.clone()).expect("a client");
        let plane = Self { servers, config, client };
        install(&plane.servers);
        plane
    }

    /// The operator for all namespaces.
    pub async fn operator(&self, config: &str) -> Operator {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let settings = Settings {
            config: OperatorConfig::parse(config).expect("a configuration"),
            namespace: SYSTEM.to_owned(),
            identity: "operator-0".to_owned(),
            scopes: vec![Scope::All],
            // No relay runs, so none is asked.
            addresses: Some(Arc::new(|_: &str| SocketAddr::from(([127, 0, 0, 1], 0)))),
            clock: Clock::system(),
        };
        let mut lease = self.config.clone();
        lease.default_retry = false;
        let client = |config| Client::try_from(config).expect("a client");
        let clients = Clients { work: client(self.config.clone()), lease: client(lease) };
        Operator(tokio::spawn(run(settings, clients, listener, CancellationToken::new())))
    }
}

/// Ends when dropped.
pub struct Operator(JoinHandle<Result<(), Whatever>>);

impl Operator {
    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}
