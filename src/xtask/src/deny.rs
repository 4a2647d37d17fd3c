//! cargo-deny: licences, sources, banned crates and known vulnerabilities of everything that the programs contain.

use std::path::{Path, PathBuf};

use crate::{
    paths,
    progress::step,
    run::{Result, command, output},
};

const VERSION: &str = "0.20.2";
/// A network that drops packets would hold up the fetch for minutes.
const FETCH_SECONDS: &str = "60";

/// Checks deny.toml. Vulnerabilities are only looked for where RustSec's database can be fetched; else a line says so.
pub fn check() -> Result<()> {
    let program = install()?;
    deny(&program, &["--locked", "check", "licenses", "bans", "sources"])?;
    let mut fetch = command(&["timeout", FETCH_SECONDS]);
    fetch.arg(&program).args(["fetch", "db"]).current_dir(paths::checkout());
    if let Err(error) = output(&mut fetch) {
        let why = error.to_string();
        let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        println!("NOT CHECKED  known vulnerabilities: RustSec's database can't be fetched from here ({why})");
        return Ok(());
    }
    deny(&program, &["--locked", "check", "advisories"])
}

fn deny(program: &Path, words: &[&str]) -> Result<()> {
    step(format!("cargo deny {}", words.join(" ")));
    output(command(&[program]).args(words).current_dir(paths::checkout())).map(drop)
}

/// The program of this version, built once.
fn install() -> Result<PathBuf> {
    let root = paths::cache().join("bin").join(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin/cargo-deny");
    if program.exists() {
        return Ok(program);
    }
    step(format!("building cargo-deny {VERSION} (minutes, once)"));
    // Unoptimised it is built in a fraction of the time, and takes a second longer.
    let mut install = command(&[env!("CARGO"), "install", "--debug", "--quiet", "--locked", "cargo-deny"]);
    install.args(["--version", VERSION]);
    install.arg("--root").arg(&root).current_dir(paths::checkout());
    output(&mut install)?;
    Ok(program)
}
