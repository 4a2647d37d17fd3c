//! The relay and the Jobs, as they are published.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use marketrelay_api::{
    backup::{
        Choice, JobConfig, JobReport, PastErasures, RestoreConfig, RestoreReport, S3Store, Site, SiteStore,
        paths::{CONFIG, ERASURES, IDENTITIES, ROLE, STORE, STORE_ON_SITE, TERMINATION},
    },
    relay::paths::DATA,
};
use marketrelay_escrow::erasures::pack;
use tokio::process::{Child, Command};

use crate::{
    authority::Authority,
    measured::{self, Measured},
    s3::{ACCESS_KEY, BUCKET, REGION, S3, SECRET_KEY},
    shop::{CONNECTION, DAY, Shop, mount, mount_identity, retention},
    waiting::eventually,
};

/// Beside the folder of what was built as this was.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    this.ancestors().nth(3).expect("the folder of all builds").join("release").join(name)
}

/// The relay; it ends when it is dropped.
pub struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    /// On the shop's database.
    pub async fn start(shop: &Shop, authority: &Authority) -> Self {
        shop.mount_relay(authority);
        let log = shop.root().join("log");
        let file = File::create(&log).expect("a log");
        let child = Command::new(program("marketrelay-relay"))
            .arg("--root")
            .arg(shop.root())
            .args(["--listen", "127.0.0.1:0"])
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a handle"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the relay's program");
        let address = eventually("the admin API listens", || async {
            let text = fs::read_to_string(&log).expect("a log");
            text.lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(line["fields"]["address"].as_str()?.to_owned())
            })
        });
        let address = address.await;
        Self { child, address }
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGTERM, as the kubelet sends it; everything is in the database's file then.
    pub async fn end(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().await;
        assert!(sent.expect("kill").success());
        assert!(self.child.wait().await.expect("a status").success());
    }
}

/// Where backups go.
pub fn store(s3: &S3, authority: &Authority) -> S3Store {
    S3Store {
        endpoint: Some(s3.endpoint().parse().expect("a URL")),
        bucket: BUCKET.to_owned(),
        region: REGION.to_owned(),
        prefix: CONNECTION.to_owned(),
        path_style: true,
        ca_certificates: authority.pem.clone(),
    }
}

fn mount_credentials(root: &Path, path: &str) {
    mount(root, &format!("{path}/accessKeyId"), ACCESS_KEY);
    mount(root, &format!("{path}/secretAccessKey"), SECRET_KEY);
}

async fn job(task: &str, root: &Path) -> (Measured, String) {
    mount(root, TERMINATION, "");
    let mut command = Command::new(program("marketrelay-backup"));
    command.arg(task).arg("--root").arg(root).env("RUST_LOG", "info");
    let measured = measured::run(&mut command, &root.join("log")).await;
    let report = fs::read_to_string(root.join(TERMINATION.trim_start_matches('/'))).expect("a report");
    (measured, report)
}

/// The Job that backs up; all orders are in it. What the Job took, and the relay's highest memory meanwhile.
pub async fn back_up(
    shop: &Shop,
    relay: &Relay,
    store: &S3Store,
    authority: &Authority,
    root: &Path,
) -> (Measured, f64) {
    let config = JobConfig {
        escrow: false,
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        site: Site::OnSite,
        store: store.clone(),
        relay: format!("https://{}", relay.address.replace("127.0.0.1", "localhost")).parse().expect("a URL"),
        public_key: None,
        backup_retention_seconds: 30 * DAY.as_secs(),
        interval_seconds: DAY.as_secs(),
        holds: Vec::new(),
    };
    mount(root, CONFIG, serde_yaml::to_string(&config).expect("YAML"));
    mount_credentials(root, STORE);
    mount_identity(root, authority, Some(ROLE));
    measured::forget_highest(relay.id());
    let (measured, report) = job("run", root).await;
    let peak = measured::highest(relay.id()).expect("it runs");
    let written = serde_json::from_str::<JobReport>(&report).expect("a report").written;
    assert_eq!(written.map(|written| written.orders), Some(shop.count), "{report}");
    (measured, peak)
}

/// The Job that restores into an empty volume; all orders are there then.
pub async fn restore(shop: &Shop, store: &S3Store, root: &Path) -> Measured {
    let config = RestoreConfig {
        chain: None,
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        sites: vec![SiteStore { site: Site::OnSite, store: store.clone() }],
        left_out: Vec::new(),
        choice: Choice::Newest,
        public_key: shop.public_key(),
        retention: retention(),
        replace: false,
        erasures: PastErasures::default(),
    };
    mount(root, ERASURES, pack(&config.erasures).expect("packed"));
    mount(root, CONFIG, serde_yaml::to_string(&config).expect("YAML"));
    mount_credentials(root, STORE_ON_SITE);
    shop.mount_keys(root);
    for (name, bytes) in shop.identities.entries() {
        mount(root, &format!("{IDENTITIES}/{name}"), bytes);
    }
    let volume = root.join(DATA.trim_start_matches('/'));
    fs::create_dir_all(&volume).expect("a folder");
    let (measured, report) = job("restore-volume", root).await;
    let restored = serde_json::from_str::<RestoreReport>(&report).expect("a report").restored;
    assert_eq!(restored.map(|restored| restored.orders), Some(shop.count), "{report}");
    fs::remove_dir_all(volume).expect("removed");
    measured
}
