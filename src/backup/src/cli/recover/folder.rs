//! The manifests in files that nobody else may read.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use snafu::{ResultExt, Whatever, ensure_whatever, whatever};

use super::manifests::Manifests;

const KEYS: &str = "keys";
const ERASURES: &str = "erasures";

/// Nothing is written over.
pub fn check(to: &Path) -> Result<(), Whatever> {
    let shown = to.display();
    match fs::read_dir(to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => whatever!("{shown} can't be used: {error}"),
        Ok(mut entries) => {
            ensure_whatever!(entries.next().is_none(), "{shown} isn't empty: give a new folder");
            Ok(())
        }
    }
}

/// Writes a file for each namespace.
pub fn write(to: &Path, manifests: &Manifests) -> Result<(), Whatever> {
    for (name, files) in [(KEYS, &manifests.keys), (ERASURES, &manifests.erasures)] {
        if files.is_empty() {
            continue;
        }
        let folder = to.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_whatever_context(|error| format!("can't make {}: {error}", folder.display()))?;
        for (namespace, yaml) in files {
            let path = folder.join(format!("{namespace}.yaml"));
            let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| file.write_all(yaml.as_bytes()));
            written.with_whatever_context(|error| format!("can't write {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// What a person does with them.
pub fn next_steps(to: &Path, manifests: &Manifests) -> String {
    if manifests.keys.is_empty() {
        return String::new();
    }
    let to = to.display();
    let keys = format!(
        "\nMake the namespaces first, as they were: they aren't in these files. Then, before the operator is installed (or with \
         keyProtection.enabled=false):\n  kubectl create -f {to}/{KEYS}\n"
    );
    let erasures = format!(
        "Once it is installed, before the connections are applied:\n  kubectl create -f {to}/{ERASURES}\n"
    );
    let erasures = if manifests.erasures.is_empty() { "" } else { &erasures };
    let incomplete = manifests.incomplete.iter().map(|(of, since)| {
        format!("{of}: not all that was erased before {since} was escrowed. Backups that are older aren't restored.\n")
    });
    let incomplete: String = incomplete.collect();
    let end = "Not kubectl apply: it keeps a copy of every key in an annotation.";
    format!("{keys}{erasures}{incomplete}{end} Delete {to} afterwards: who has it can open every backup.\n")
}
