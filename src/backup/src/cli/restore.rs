use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use marketrelay_snapshot::{Item, Manifest, Value};
use serde_json::json;
use snafu::{ResultExt, Whatever, ensure_whatever};

use super::{Which, open};

/// Writes the backup's rows into a new file, one JSON object a line: `{"table": "orders", "row": {"column": value, …}}`, bytes as
/// `{"base64": "…"}`.
pub async fn run(which: &Which, identity: &Path, to: &Path) -> Result<(), Whatever> {
    ensure_whatever!(!to.exists(), "{} is there already", to.display());
    let identities = open::identities(identity)?;
    let (store, id, manifest) = which.find().await?;
    let partial = Partial::create(to)?;
    let (read, path) = (manifest.clone(), partial.0.clone());
    open::download(&store, &id, &manifest, move |from| write(from, &identities, &read, &path)).await?;
    partial.keep(to)?;
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    println!("{id}: {rows} rows of {} tables in {}", manifest.tables.len(), to.display());
    Ok(())
}

fn write(
    from: &mut dyn std::io::Read,
    identities: &open::Identities,
    manifest: &Manifest,
    to: &Path,
) -> Result<(), Whatever> {
    let file = File::options().append(true).open(to).whatever_context("can't open the file")?;
    let mut out = BufWriter::new(file);
    let (mut table, mut names) = (String::new(), Vec::new());
    open::rows(from, identities, manifest, |item| {
        match item {
            Item::Table { name, columns } => (table, names) = (name.to_owned(), columns.to_vec()),
            Item::Row(values) => {
                let row: serde_json::Map<_, _> =
                    names.iter().cloned().zip(values.iter().map(value)).collect();
                writeln!(out, "{}", json!({"table": table, "row": row})).whatever_context("can't write")?;
            }
            Item::TableEnd => {}
        }
        Ok(())
    })?;
    out.flush().whatever_context("can't write")
}

fn value(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!({"base64": BASE64_STANDARD.encode(bytes)}),
    }
}

/// A file that goes unless it is kept.
struct Partial(PathBuf);

impl Partial {
    fn create(beside: &Path) -> Result<Self, Whatever> {
        let mut name = beside.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = beside.with_file_name(name);
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        made.with_whatever_context(|error| format!("can't make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn keep(self, as_path: &Path) -> Result<(), Whatever> {
        let kept = fs::rename(&self.0, as_path);
        kept.with_whatever_context(|error| format!("can't make {}: {error}", as_path.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone if it was kept.
        drop(fs::remove_file(&self.0));
    }
}
