//! The Job that restores, as a program on a tenant's volume.

use std::{fs, path::PathBuf, time::Duration};

use marketrelay_api::{
    backup::{
        RestoreReport, Restored,
        paths::{CONFIG, ERASURES, IDENTITIES, STORE_OFF_SITE, STORE_ON_SITE},
    },
    relay::paths::{DATABASE_KEY, DIGEST, KEYRING},
};
use marketrelay_escrow::erasures::pack;
use tokio::process::Child;

use crate::{
    s3::{ACCESS_KEY, SECRET_KEY},
    tenant::{DATABASE, Tenant},
    world::{Running, SOON},
};

impl Tenant {
    /// What every Job has that opens backups.
    pub fn mount_keys(&self) {
        let keyring = self.keyring.entries().into_iter().map(|(name, bytes)| (KEYRING, name, bytes));
        let identities = self.identities.entries().into_iter().map(|(name, bytes)| (IDENTITIES, name, bytes));
        for path in [KEYRING, IDENTITIES] {
            drop(fs::remove_dir_all(self.world.path(path)));
        }
        for (path, name, bytes) in keyring.chain(identities) {
            self.world.mount(&format!("{path}/{name}"), bytes);
        }
        self.world.mount(&format!("{DIGEST}/digest-key"), self.digest);
    }

    /// The credentials of a store.
    pub fn mount_credentials(&self, path: &str) {
        self.world.mount(&format!("{path}/accessKeyId"), ACCESS_KEY);
        self.world.mount(&format!("{path}/secretAccessKey"), SECRET_KEY);
    }

    /// What was erased.
    pub fn mount_erasures(&self) {
        self.world.mount(ERASURES, pack(&self.config.erasures).expect("packed"));
    }

    pub fn spawn(&self) -> Restoring {
        self.mount_keys();
        self.world.mount(&format!("{DATABASE_KEY}/database-key"), DATABASE);
        for path in [STORE_ON_SITE, STORE_OFF_SITE] {
            self.mount_credentials(path);
        }
        self.mount_erasures();
        self.world.mount(CONFIG, serde_yaml::to_string(&self.config).expect("YAML"));
        let Running { process, log, report } = self.world.start_job("restore-volume");
        Restoring { process, log, report }
    }

    /// Runs the Job.
    pub async fn run(&self) -> RestoreReport {
        self.spawn().ended(SOON).await
    }

    /// Runs the Job, which succeeds.
    pub async fn restore(&self) -> Restored {
        let report = self.run().await;
        let log = || fs::read_to_string(self.world.path("log")).expect("a log");
        report.restored.clone().unwrap_or_else(|| panic!("{report:?} {}", log()))
    }

    /// Runs the Job, which fails: for which reason, and what it says.
    pub async fn refused(&self) -> (String, String) {
        let report = self.run().await;
        let failure = report.failure.clone().unwrap_or_else(|| panic!("{report:?}"));
        (failure.reason, failure.message)
    }
}

/// The Job while it runs.
pub struct Restoring {
    process: Child,
    log: PathBuf,
    report: PathBuf,
}

impl Restoring {
    pub fn terminate(&self) {
        let pid = self.process.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    }

    pub async fn ended(mut self, within: Duration) -> RestoreReport {
        let status = tokio::time::timeout(within, self.process.wait()).await;
        let log = fs::read_to_string(&self.log).expect("a log");
        let status = status.unwrap_or_else(|_| panic!("it doesn't end: {log}")).expect("a status");
        let text = fs::read_to_string(&self.report).expect("a report");
        assert!(text.len() < 4096, "the kubelet would cut it: {text}");
        let report: RestoreReport = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}: {log}"));
        assert_eq!(status.success(), report.failure.is_none(), "{report:?}");
        assert_eq!(report.failure.is_none(), report.restored.is_some(), "{report:?}");
        for secret in [SECRET_KEY, "AGE-SECRET-KEY", "buyer.example"] {
            assert!(!log.contains(secret) && !text.contains(secret), "{log}");
        }
        report
    }
}
