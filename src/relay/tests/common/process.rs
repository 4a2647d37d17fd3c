//! The relay as the program that runs in the pod.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::{Child, Command};

use super::eventually;

/// Its log goes to a file that later processes of the same folder append to.
pub struct Process {
    child: Child,
    log: PathBuf,
    seen: usize,
}

impl Process {
    /// Starts it with this log level.
    pub fn start(root: &Path, level: &str) -> Self {
        let log = root.join("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let seen = fs::read_to_string(&log).expect("a log").len();
        let child = Command::new(env!("CARGO_BIN_EXE_marketrelay-relay"))
            .arg("--root")
            .arg(root)
            .args(["--listen", "127.0.0.1:0"])
            .env("RUST_LOG", level)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a handle"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        Self { child, log, seen }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log").split_off(self.seen)
    }

    /// The admin API's address.
    pub async fn address(&self) -> String {
        eventually("the admin API listens", Duration::from_secs(30), || async {
            self.log().lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(line["fields"]["address"].as_str()?.to_owned())
            })
        })
        .await
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, as the kubelet sends it.
    pub async fn terminate(self, within: Duration) -> ExitStatus {
        let id = self.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status().await;
        assert!(sent.expect("a shell").success());
        self.ended(within).await
    }

    /// Waits for its end.
    pub async fn ended(mut self, within: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("still there after {within:?}: {}", self.log())).expect("a status")
    }
}
