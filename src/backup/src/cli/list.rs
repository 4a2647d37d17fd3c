use jiff::Timestamp;
use snafu::Whatever;

use super::Place;
use crate::size::size;
use crate::{archives::orders, catalog::Catalog, inventory::Stored};

/// Writes a line for each backup, and what else there is.
pub async fn run(place: &Place) -> Result<(), Whatever> {
    let store = place.store()?;
    let catalog = place.catalog(&store).await?;
    print!("{}", table(&catalog, Timestamp::now()));
    let inventory = &catalog.inventory;
    if inventory.all().next().is_none() && inventory.foreign.is_empty() {
        eprintln!(
            "nothing is below {}/ in this bucket: --prefix is spec.backup's prefix, a slash and status.connectionId",
            store.prefix()
        );
    }
    Ok(())
}

fn table(catalog: &Catalog, now: Timestamp) -> String {
    let mut lines = vec![line("BACKUP", ["TAKEN", "EXPIRES", "NUMBER", "SIZE", "STATE"])];
    for (id, stored) in &catalog.inventory.backups {
        let size = size(stored.bytes());
        let damage = catalog.damaged.iter().find(|(damaged, _)| damaged == id);
        lines.push(match (catalog.manifests.get(id), damage) {
            (Some(manifest), _) => {
                let state = if manifest.expires_at <= now { "expired" } else { "complete" };
                let [taken, expires] = [manifest.created_at, manifest.expires_at].map(second);
                line(id.as_str(), [&taken, &expires, &manifest.sequence.to_string(), &size, state])
            }
            (None, Some((_, problem))) => {
                line(id.as_str(), ["", "", "", &size, &format!("damaged: {problem}")])
            }
            (None, None) => line(id.as_str(), ["", "", "", &size, incomplete(stored)]),
        });
    }
    lines.extend(archives(catalog));
    let foreign = &catalog.inventory.foreign;
    if !foreign.is_empty() {
        lines.push(format!("\nno backup's: {}", foreign.len()));
        // A name may hold anything, also what a terminal obeys.
        lines.extend(foreign.iter().map(|key| format!("  {key:?}")));
    }
    lines.join("\n") + "\n"
}

/// Those of holds, if there are any.
fn archives(catalog: &Catalog) -> Vec<String> {
    let archives = catalog.inventory.archives.iter().map(|(archive, stored)| {
        let damage = catalog.damaged_archives.iter().find(|(damaged, _)| damaged == archive);
        let (orders, state) = match (catalog.archives.get(archive), damage) {
            (Some(manifest), _) => (orders(manifest).to_string(), manifest.identity.clone()),
            (None, Some((_, problem))) => (String::new(), format!("damaged: {problem}")),
            (None, None) => (String::new(), incomplete(stored).to_owned()),
        };
        format!("{}  {}  {orders:>8}  {:>10}  {state}", archive.id, archive.hold, size(stored.bytes()))
    });
    let archives: Vec<_> = archives.collect();
    if archives.is_empty() {
        return archives;
    }
    let head = format!("\n{:<25}  {:<64}  {:>8}  {:>10}  KEY", "ARCHIVE", "HOLD", "ORDERS", "SIZE");
    [vec![head], archives].concat()
}

fn line(backup: &str, [taken, expires, number, size, state]: [&str; 5]) -> String {
    format!("{backup:<25}  {taken:<20}  {expires:<20}  {number:>6}  {size:>10}  {state}")
}

fn incomplete(stored: &Stored) -> &'static str {
    if stored.versions.is_empty() { "unfinished upload" } else { "incomplete" }
}

/// Without fractions.
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
