use std::fmt::Write;

use jiff::Timestamp;
use snafu::Whatever;

use super::{Place, size};
use crate::{catalog::Catalog, inventory::Stored};

/// Writes a line for each backup, and what else there is.
pub async fn run(place: &Place) -> Result<(), Whatever> {
    let store = place.store()?;
    let catalog = place.catalog(&store).await?;
    print!("{}", table(&catalog, Timestamp::now()));
    Ok(())
}

fn table(catalog: &Catalog, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |backup: &str, taken: &str, expires: &str, number: &str, size: &str, state: &str| {
        drop(writeln!(out, "{backup:<25}  {taken:<20}  {expires:<20}  {number:>6}  {size:>10}  {state}"));
    };
    line("BACKUP", "TAKEN", "EXPIRES", "NUMBER", "SIZE", "STATE");
    for (id, stored) in &catalog.inventory.backups {
        let size = size(stored.bytes());
        let damage = catalog.damaged.iter().find(|(damaged, _)| damaged == id);
        match (catalog.manifests.get(id), damage) {
            (Some(manifest), _) => {
                let state = if manifest.expires_at <= now { "expired" } else { "complete" };
                let [taken, expires] = [manifest.created_at, manifest.expires_at].map(second);
                line(id.as_str(), &taken, &expires, &manifest.sequence.to_string(), &size, state);
            }
            (None, Some((_, problem))) => {
                line(id.as_str(), "", "", "", &size, &format!("damaged: {problem}"));
            }
            (None, None) => line(id.as_str(), "", "", "", &size, incomplete(stored)),
        }
    }
    let foreign = &catalog.inventory.foreign;
    if !foreign.is_empty() {
        drop(writeln!(out, "\n{} that are no backups' objects:", foreign.len()));
        foreign.iter().for_each(|key| drop(writeln!(out, "  {key}")));
    }
    out
}

fn incomplete(stored: &Stored) -> &'static str {
    if stored.versions.is_empty() { "unfinished upload" } else { "incomplete" }
}

/// Without fractions.
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
