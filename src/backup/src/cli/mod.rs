//! What a person does with backups outside the cluster.

mod list;
mod open;
mod progress;
mod recover;
mod restore;
mod show;
mod verify;

use std::{env, path::PathBuf, time::Duration};

use clap::Subcommand;
use marketrelay_api::backup::S3Store;
use marketrelay_audit::from_hex;
use marketrelay_keyring::HoldId;
use marketrelay_snapshot::Manifest;
use snafu::{OptionExt, ResultExt, Whatever, whatever};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    BackupId,
    catalog::Catalog,
    store::{Credentials, Store},
};

const PATIENCE: Duration = Duration::from_secs(30);
const NEWEST: &str = "newest";
const HEADING: &str = "The store (credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)";

/// What is done with the backups of one connection.
#[derive(Subcommand)]
#[expect(missing_docs, reason = "arguments that are described where they are")]
pub enum Command {
    /// List the backups of a connection, oldest first.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show what a backup or an archive says of itself: times, tables, keys.
    Show {
        #[command(flatten)]
        which: Which,
        /// The manifest as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download a backup and check it against its signed manifest.
    Verify {
        #[command(flatten)]
        which: Which,
        /// Decrypt it too, and check every table: a file with the backup's identity, AGE-SECRET-KEY-1…, or with a hold's key.
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
    /// Download a backup, check it, and write its rows as JSON lines; what identifies a person stays sealed in them.
    Restore {
        #[command(flatten)]
        which: Which,
        /// The file with the backup's identity, AGE-SECRET-KEY-1…, or with a hold's key.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// Is made, and appears only once everything is right.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Rebuild the keys of every connection of a lost cluster from the off-site store and the escrow identity, or check that it
    /// could be done.
    Recover(recover::Recover),
}

impl Command {
    /// Does it, and writes to standard output.
    pub async fn run(self) -> Result<(), Whatever> {
        match self {
            Self::List { place } => list::run(&place).await,
            Self::Show { which, json } => show::run(&which, json).await,
            Self::Verify { which, identity } => verify::run(&which, identity.as_deref()).await,
            Self::Restore { which, identity, to } => restore::run(&which, &identity, &to).await,
            Self::Recover(recover) => recover.run().await,
        }
    }
}

/// Where the backups of a connection are.
#[derive(clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct Place {
    #[command(flatten)]
    bucket: Bucket,
    /// Where the connection's backups are in the bucket: the configured prefix, a slash, the connection's id
    /// (`status.connectionId`).
    #[arg(long)]
    prefix: String,
    /// The relay's public key, hex (`status.audit.publicKey`): a manifest that another key signed is refused.
    #[arg(long, value_name = "HEX")]
    public_key: Option<String>,
}

/// A bucket. Credentials are in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if there is one, `AWS_SESSION_TOKEN`.
#[derive(clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct Bucket {
    /// The store's https URL; without it AWS, by the region.
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    endpoint: Option<Url>,
    /// The bucket's name.
    #[arg(long)]
    bucket: String,
    /// The bucket's region.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// The bucket is in the URL's path instead of its host name.
    #[arg(long)]
    path_style: bool,
    /// PEM file with authorities that are trusted beside the public ones.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Which backup.
#[derive(clap::Args)]
pub struct Which {
    /// The backup's id, or the newest one.
    #[arg(default_value = NEWEST)]
    backup: String,
    /// An archive of this hold instead of a backup; `list` shows its id. The identity is the hold's key then, 32 bytes.
    #[arg(long, value_name = "ID")]
    hold: Option<HoldId>,
    #[command(flatten)]
    place: Place,
}

impl Place {
    fn connection_id(&self) -> &str {
        self.prefix.rsplit('/').next().unwrap_or_default()
    }

    /// What may be wrong if nothing can be used.
    fn key_hint(&self) -> &'static str {
        if self.public_key.is_some() { " (is --public-key the relay's, status.audit.publicKey?)" } else { "" }
    }

    fn store(&self) -> Result<Store, Whatever> {
        let is_key = self.public_key.as_deref().is_none_or(|key| from_hex::<32>(key).is_some());
        snafu::ensure_whatever!(is_key, "--public-key must be 64 lowercase hex digits");
        let store = Store::new(&self.bucket.below(&self.prefix)?, &credentials()?, PATIENCE);
        store.with_whatever_context(|error| error.to_string())
    }

    async fn catalog(&self, store: &Store) -> Result<Catalog, Whatever> {
        let catalog = Catalog::load(store, self.connection_id(), self.public_key.as_deref()).await;
        catalog.with_whatever_context(|error| error.to_string())
    }
}

impl Bucket {
    /// What in it is under this prefix.
    fn below(&self, prefix: &str) -> Result<S3Store, Whatever> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.with_whatever_context(|error| format!("can't read {}: {error}", path.display()))
        };
        Ok(S3Store {
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            prefix: prefix.to_owned(),
            path_style: self.path_style,
            ca_certificates: self.ca.as_ref().map(read).transpose()?.unwrap_or_default(),
        })
    }
}

fn credentials() -> Result<Credentials, Whatever> {
    let get = |name| env::var(name).ok().filter(|text| !text.is_empty()).map(Zeroizing::new);
    let required = |name| {
        get(name)
            .with_whatever_context(|| format!("{name} isn't set: the store's credentials are read from it"))
    };
    Ok(Credentials {
        access_key_id: required("AWS_ACCESS_KEY_ID")?,
        secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
        session_token: get("AWS_SESSION_TOKEN"),
    })
}

impl Which {
    /// Where the backup or the archive is, its id, and its manifest, which is its own.
    async fn find(&self) -> Result<(Store, BackupId, Manifest), Whatever> {
        let store = self.place.store()?;
        let catalog = self.place.catalog(&store).await?;
        let (store, mut good, damaged) = match &self.hold {
            None => (store, catalog.manifests, catalog.damaged),
            Some(hold) => {
                let (good, damaged) = catalog.of_hold(hold);
                (store.of_hold(hold), good, damaged)
            }
        };
        let id = match self.backup.as_str() {
            NEWEST => good.keys().next_back().cloned(),
            text => BackupId::parse(text),
        };
        let is_damaged = |id: &BackupId| damaged.iter().find(|(damaged, _)| damaged == id);
        if let Some((id, problem)) = id.as_ref().and_then(is_damaged) {
            whatever!("{id} can't be used: {problem}{}", self.place.key_hint());
        }
        if let (NEWEST, None, Some((id, problem))) = (self.backup.as_str(), &id, damaged.last()) {
            let (count, prefix, hint) = (damaged.len(), store.prefix(), self.place.key_hint());
            whatever!(
                "none of the {count} that are under {prefix}/ can be used; the newest, {id}: {problem}{hint}"
            );
        }
        if let (NEWEST, Some(id), Some((newer, problem))) = (self.backup.as_str(), &id, damaged.last())
            && newer > id
        {
            let hint = self.place.key_hint();
            whatever!(
                "the newest, {newer}, can't be used: {problem}{hint}; the newest good one is {id}: name it to go on"
            );
        }
        let found = id.and_then(|id| good.remove_entry(&id));
        let (id, manifest) = found.with_whatever_context(|| {
            let what = if self.hold.is_some() { "archive" } else { "backup" };
            let count = good.len() + damaged.len();
            format!(
                "there is no {what} {:?} under {}/: `list` shows the {count} that are there",
                self.backup,
                store.prefix()
            )
        })?;
        Ok((store, id, manifest))
    }
}
