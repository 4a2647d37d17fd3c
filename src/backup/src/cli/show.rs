use marketrelay_snapshot::Manifest;
use snafu::{ResultExt, Whatever};

use super::{Which, list::second};
use crate::size::size;

/// Writes what the manifest says.
pub async fn run(which: &Which, json: bool) -> Result<(), Whatever> {
    let (_, _, manifest) = which.find().await?;
    if json {
        let json = serde_json::to_string_pretty(&manifest).whatever_context("the manifest")?;
        println!("{json}");
    } else {
        print!("{}", text(&manifest));
    }
    Ok(())
}

fn text(manifest: &Manifest) -> String {
    let known = manifest.known_until.map_or_else(|| "nothing yet".to_owned(), second);
    let fields = [
        ("backup", manifest.backup.clone()),
        ("connection", format!("{}/{} ({})", manifest.namespace, manifest.name, manifest.marketplace)),
        ("connection's id", manifest.connection_id.clone()),
        ("number", manifest.sequence.to_string()),
        ("taken", second(manifest.created_at)),
        ("shipments known to", known),
        ("expires", second(manifest.expires_at)),
        ("identity", manifest.identity.clone()),
        ("data", format!("{}, SHA-256 {}", size(manifest.data.bytes), manifest.data.sha256)),
        ("format, schema", format!("{}, {}", manifest.format, manifest.schema)),
        ("epoch keys", manifest.keys.join(" ")),
        ("archive of hold", manifest.hold.as_ref().map_or("", |hold| hold.id.as_str()).to_owned()),
    ];
    let fields = fields.iter().filter(|(name, value)| *name != "archive of hold" || !value.is_empty());
    let fields = fields.map(|(name, value)| format!("{name:<19} {value}").trim_end().to_owned() + "\n");
    let tables = manifest.tables.iter().map(|table| format!("  {:<24} {:>10}\n", table.name, table.rows));
    fields.chain(["rows\n".to_owned()]).chain(tables).collect()
}
