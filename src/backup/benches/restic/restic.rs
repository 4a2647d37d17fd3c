//! restic, as a person would have it copy the database's file.

use std::path::{Path, PathBuf};

use marketrelay_audit::hex;
use tokio::process::Command;

use crate::{
    measured::{Measured, run},
    s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY},
};

/// A repository of its own.
pub struct Restic {
    url: String,
    /// In the bucket.
    pub prefix: String,
    password: String,
    folder: PathBuf,
}

impl Restic {
    /// Makes the repository. In `folder` are the authority's certificate, its cache and its log.
    pub async fn init(s3: &S3, authority: &str, prefix: String, folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("ca.pem"), authority).expect("a file");
        let url = format!("s3:{}/{BUCKET}/{prefix}", s3.endpoint());
        let restic = Self { url, prefix, password: hex(&rand::random::<[u8; 32]>()), folder };
        restic.run(&["init"]).await;
        restic
    }

    pub async fn backup(&self, file: &Path) -> Measured {
        self.run(&["backup", "--quiet", &file.display().to_string()]).await
    }

    /// Restores the newest, which is as `file` is.
    pub async fn restore(&self, file: &Path) -> Measured {
        let target = self.folder.join("restored");
        let measured =
            self.run(&["restore", "latest", "--quiet", "--target", &target.display().to_string()]).await;
        let restored = target.join(file.strip_prefix("/").expect("an absolute path"));
        let same = Command::new("cmp").arg("--silent").args([file, &restored]).status().await;
        assert!(same.expect("cmp").success(), "{} isn't as it was", restored.display());
        std::fs::remove_dir_all(target).expect("removed");
        measured
    }

    async fn run(&self, words: &[&str]) -> Measured {
        let mut command = Command::new("restic");
        command
            .arg("--cacert")
            .arg(self.folder.join("ca.pem"))
            .args(words)
            .env("RESTIC_REPOSITORY", &self.url)
            .env("RESTIC_PASSWORD", &self.password)
            .env("RESTIC_CACHE_DIR", self.folder.join("cache"))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        run(&mut command, &self.folder.join("log")).await
    }
}
