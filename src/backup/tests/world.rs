//! What a Job needs around it: a relay, a store, mounts.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{
    JobConfig, JobReport, Listing, S3Store, Site,
    paths::{CONFIG, ROLE, STORE, TERMINATION, TLS},
};
use marketrelay_audit::hex;
use marketrelay_snapshot::{Data, Manifest};
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub use crate::waiting::{SOON, eventually};
use crate::{
    authority::Authority,
    relay::{CONNECTION, Relay, manifest, signed},
    s3::{ACCESS_KEY, BUCKET, Bucket, REGION, S3, SECRET_KEY},
};

pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Three parts of an upload.
const SNAPSHOT: usize = (16 << 20) + 12345;

/// All of it.
pub struct World {
    pub authority: Authority,
    pub s3: S3,
    pub relay: Relay,
    pub config: JobConfig,
    pub access_key: String,
    pub secret_key: String,
    pub patience: u64,
    folder: TempDir,
}

/// A Job that has ended.
pub struct Ended {
    pub success: bool,
    pub report: JobReport,
    pub log: String,
}

impl Ended {
    /// Why it failed.
    pub fn reason(&self) -> &str {
        self.report.failure.as_ref().map_or("", |failure| &failure.reason)
    }

    /// What it says about that.
    pub fn message(&self) -> &str {
        self.report.failure.as_ref().map_or("", |failure| &failure.message)
    }

    pub fn listing(&self) -> &Listing {
        self.report.listing.as_ref().unwrap_or_else(|| panic!("not listed: {:?} {}", self.report, self.log))
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(Bucket::Versions, SNAPSHOT).await
    }

    pub async fn with(bucket: Bucket, snapshot: usize) -> Self {
        let authority = Authority::new();
        let s3 = S3::start(&authority, TempDir::new().expect("a folder")).await;
        s3.make_bucket(bucket).await;
        let relay = Relay::start(&authority, snapshot).await;
        let store = S3Store {
            endpoint: Some(s3.endpoint().parse().expect("a URL")),
            bucket: BUCKET.to_owned(),
            region: REGION.to_owned(),
            prefix: format!("tenants/{CONNECTION}"),
            path_style: true,
            ca_certificates: authority.pem.clone(),
        };
        let config = JobConfig {
            escrow: false,
            connection_id: CONNECTION.to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            site: Site::OnSite,
            store,
            relay: format!("https://localhost:{}", relay.port).parse().expect("a URL"),
            public_key: None,
            backup_retention_seconds: 30 * DAY.as_secs(),
            interval_seconds: DAY.as_secs(),
            holds: Vec::new(),
        };
        let (access_key, secret_key) = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
        let folder = TempDir::new().expect("a folder");
        Self { authority, s3, relay, config, access_key, secret_key, patience: 20, folder }
    }

    pub fn key(&self, rest: &str) -> String {
        format!("{}/{rest}", self.config.store.prefix)
    }

    /// A Job that writes a backup.
    pub async fn run(&self) -> Ended {
        self.spawn("run").ended().await
    }

    /// A Job that only prunes.
    pub async fn prune(&self) -> Ended {
        self.spawn("prune").ended().await
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file below the Job's root.
    pub fn mount(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn spawn(&self, task: &str) -> Running {
        self.mount(CONFIG, serde_yaml::to_string(&self.config).expect("YAML"));
        self.mount(&format!("{STORE}/accessKeyId"), &self.access_key);
        self.mount(&format!("{STORE}/secretAccessKey"), &self.secret_key);
        let issued = self.authority.issue(Some(ROLE));
        self.mount(&format!("{TLS}/tls.crt"), &issued.certificate);
        self.mount(&format!("{TLS}/tls.key"), &issued.key);
        self.mount(&format!("{TLS}/ca.crt"), &self.authority.pem);
        self.start_job(task)
    }

    /// Starts the Job with what is mounted.
    pub fn start_job(&self, task: &str) -> Running {
        self.mount(TERMINATION, "");
        let (log, report) = (self.path("log"), self.path(TERMINATION));
        let to = File::create(&log).expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_marketrelay-backup"))
            .arg(task)
            .arg("--root")
            .arg(self.folder.path())
            .args(["--patience", &self.patience.to_string()])
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(to.try_clone().expect("a handle"))
            .stderr(to)
            .kill_on_drop(true)
            .spawn();
        Running { process: process.expect("a process"), log, report }
    }

    /// The program as a person calls it; gives its output and whether it succeeded.
    pub async fn by_hand(&self, words: &[&str]) -> (bool, String) {
        self.by_hand_below(&self.config.store.prefix, words).await
    }

    /// The same for what is under another prefix.
    pub async fn by_hand_below(&self, prefix: &str, words: &[&str]) -> (bool, String) {
        let ca = self.path("ca.pem");
        fs::write(&ca, &self.authority.pem).expect("a file");
        let store = &self.config.store;
        let out = Command::new(env!("CARGO_BIN_EXE_marketrelay-backup"))
            .args(words)
            .args(["--endpoint", &self.s3.endpoint(), "--bucket", &store.bucket, "--path-style"])
            .args(["--region", &store.region, "--prefix", prefix])
            .arg("--ca")
            .arg(ca)
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_key)
            .env("TMPDIR", self.temporary())
            .output();
        let out = out.await.expect("a process");
        let text = [&out.stdout[..], &out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The folder of what a program by hand needs for a while.
    pub fn temporary(&self) -> PathBuf {
        let path = self.path("tmp");
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Puts a backup of this age into the store, as a Job did then.
    pub async fn backup_of(&self, age: SignedDuration) -> String {
        let (id, manifest) = manifest_of(age);
        self.s3.put(&self.key(&format!("{id}/data")), DATA).await;
        self.s3.put(&self.key(&format!("{id}/manifest.json")), &signed(&manifest)).await;
        id
    }

    /// Whether any object of that backup is on the disk.
    pub fn has(&self, id: &str) -> bool {
        let prefix = self.key(id);
        self.s3.objects().keys().any(|key| key.starts_with(&prefix))
    }
}

/// An id of this age, and the manifest of a backup that has [`DATA`].
pub fn manifest_of(age: SignedDuration) -> (String, Manifest) {
    let taken = Timestamp::now() - age;
    let id = marketrelay_backup::BackupId::mint(taken).to_string();
    let sha256 = hex(digest(&SHA256, DATA).as_ref());
    let manifest = manifest(&id, taken, Data { bytes: DATA.len() as u64, sha256 });
    (id, manifest)
}

pub const DATA: &[u8] = b"what is in a backup of the tests";

/// A Job that runs.
pub struct Running {
    pub process: Child,
    pub log: PathBuf,
    pub report: PathBuf,
}

impl Running {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub fn terminate(&self) {
        let killed = std::process::Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(killed.expect("kill").success());
    }

    pub async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(SOON, self.process.wait()).await;
        let log = self.log();
        let status = status.unwrap_or_else(|_| panic!("it doesn't end: {log}")).expect("a status");
        let text = fs::read_to_string(&self.report).expect("a report");
        assert!(text.len() < 4096, "the kubelet would cut it: {text}");
        let report: JobReport = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}: {log}"));
        assert_eq!(status.success(), report.failure.is_none(), "{report:?}");
        for secret in [SECRET_KEY, "PRIVATE KEY"] {
            assert!(!log.contains(secret) && !text.contains(secret), "{log}");
        }
        Ended { success: status.success(), report, log }
    }
}
