//! In place of a node: runs a connection's relay in this process, with what the operator made mounted.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use marketrelay_api::relay::paths;
use marketrelay_operator::names::{DIGEST_KEY, Names};
use marketrelay_relay::{
    clock::Clock,
    run::{Surroundings, run},
};
use snafu::Whatever;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{Space, wait_for};

/// Each host name has a loopback address of its own, so that all can listen on the admin API's port.
pub fn address(host: &str) -> SocketAddr {
    let mut hasher = DefaultHasher::new();
    host.hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, a | 1, b, c | 1), paths::ADMIN_PORT))
}

/// A connection's volume; it survives the pod.
pub struct Volume(TempDir);

/// A running relay.
pub struct Pod {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Whatever>>,
}

impl Volume {
    pub fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        fs::create_dir_all(root.path().join(paths::DATA.trim_start_matches('/'))).expect("a folder");
        Self(root)
    }

    /// Mounts what there is for the connection, and starts its relay.
    pub async fn start(&self, space: &Space, connection: &str) -> Pod {
        let names = Names(connection);
        let config = space.api::<ConfigMap>().get(&names.relay()).await.expect("a configuration");
        let entries = config.data.into_iter().flatten().map(|(name, text)| (name, text.into_bytes()));
        self.mount(paths::CONFIG_FOLDER, entries);
        let spec = super::connection(space, connection).await.spec;
        let credentials = spec.credentials_secret_ref.name;
        for (path, secret) in [
            (paths::KEYRING, names.keyring()),
            (paths::DIGEST, DIGEST_KEY.to_owned()),
            (paths::DATABASE_KEY, names.database_key()),
            (paths::CREDENTIALS, credentials),
            (paths::SIGNING, "erp-signing".to_owned()),
            (paths::TLS, names.tls()),
        ] {
            let secret =
                wait_for(space, &secret, async || space.api::<Secret>().get(&secret).await.ok()).await;
            self.mount(path, secret.data.into_iter().flatten().map(|(name, bytes)| (name, bytes.0)));
        }
        let listener = TcpListener::bind(address(&names.host(&space.name))).await.expect("a port");
        let stop = CancellationToken::new();
        let root = self.0.path().to_owned();
        let task = tokio::spawn(run(Surroundings { root, listener, clock: Clock::system() }, stop.clone()));
        Pod { stop, task }
    }

    fn mount(&self, path: &str, entries: impl Iterator<Item = (String, Vec<u8>)>) {
        let folder: &Path = &self.0.path().join(path.trim_start_matches('/'));
        // What is in the Secret no more isn't mounted any more.
        let _absent = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).expect("a folder");
        for (name, bytes) in entries {
            fs::write(folder.join(name), bytes).expect("a file");
        }
    }
}

impl Pod {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }
}
