//! The keys of a lost cluster's connections, from the off-site store.

mod agree;
mod check;
mod find;
mod folder;
mod identity;
mod manifests;
mod newest;
mod opened;
mod table;

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use jiff::Timestamp;
use marketrelay_pod::termination;
use snafu::{OptionExt, ResultExt, Whatever, ensure_whatever, whatever};
use tokio_util::sync::CancellationToken;

use super::{Bucket, HEADING};
use check::Checks;
use find::{Found, Reader};
use opened::Opened;
use table::Row;

/// Rebuild the keys of every connection of a lost cluster.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").args(["to", "check"]).required(true))]
pub struct Recover {
    /// The file with the escrow identity, AGE-SECRET-KEY-1…, as age-keygen writes it.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// A new or empty folder for the Kubernetes manifests.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Write nothing that stays: restore the newest backup of each connection with its escrowed keys into a database that is thrown away.
    #[arg(long)]
    check: bool,
    /// Connections of this namespace alone.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Connections of this name or id alone.
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    #[command(flatten)]
    bucket: Bucket,
    /// The prefix of the operator's configuration, above the connections' ids; nothing if there is none.
    #[arg(long, default_value = "", help_heading = HEADING)]
    prefix: String,
}

impl Recover {
    /// Does it, and writes a table of it to standard output. It fails if there is a problem with one of them.
    pub async fn run(self) -> Result<(), Whatever> {
        let stop = termination::token().whatever_context("can't wait for SIGTERM")?;
        let identities = identity::read(&self.identity)?;
        self.to.as_ref().map_or(Ok(()), |to| folder::check(to))?;
        let reader = Reader::new(&self.bucket, &self.prefix)?;
        let now = Timestamp::now();
        let found = stop.run_until_cancelled(reader.all(&identities, now)).await;
        let mut found = found.whatever_context("asked to end")??;
        found.retain(|found| self.is_meant(found));
        ensure_whatever!(
            !found.is_empty(),
            "there are no escrowed keys {}: are bucket and prefix those of the off-site store, and does the operator's \
             configuration have backup.escrow.recipients?",
            if self.namespace.is_some() || self.connection.is_some() {
                "of such a connection"
            } else {
                "under this prefix"
            }
        );
        let found = agree::agreed(found);
        let (rows, steps) = match &self.to {
            Some(to) => write(&reader, to, found, now, &stop).await?,
            None => (Checks { reader: &reader, now, stop: &stop }.run(found).await?, String::new()),
        };
        print!("{}{steps}", table::table(&rows));
        let failed = rows.iter().filter(|row| row.problem.is_some()).count();
        if failed > 0 {
            whatever!("{failed} of {} connections have a problem", rows.len());
        }
        Ok(())
    }

    /// One that can't be opened may be any of a namespace, so it is shown with each.
    fn is_meant(&self, found: &Found) -> bool {
        let asked = self.connection.as_deref();
        let is_id = asked == Some(found.id.as_str());
        match &found.opened {
            Ok(opened) => {
                let name = asked.is_none_or(|asked| is_id || asked == opened.name);
                name && self.namespace.as_ref().is_none_or(|namespace| *namespace == opened.namespace)
            }
            Err(_) => is_id || asked.is_none(),
        }
    }
}

/// Writes the manifests of those that could be opened; gives also what is done with them.
async fn write(
    reader: &Reader,
    to: &Path,
    found: Vec<Found>,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<(Vec<Row>, String), Whatever> {
    let opened: Vec<_> = found.iter().filter_map(|found| found.opened.as_deref().ok()).collect();
    let manifests = manifests::of(&opened, now)?;
    folder::write(to, &manifests)?;
    let mut rows = Vec::new();
    for found in &found {
        let row = match &found.opened {
            Err(problem) => Row::unopened(found, problem),
            Ok(opened) => {
                let newest = stop.run_until_cancelled(newest::newest(reader, opened, now)).await;
                Row::of(opened, newest.whatever_context("asked to end")?)
            }
        };
        rows.push(row);
    }
    Ok((rows, folder::next_steps(to, &manifests)))
}
