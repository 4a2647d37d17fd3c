//! Where this tool keeps things: the checkout, and a cache outside it that survives a clean clone.

use std::{env, path::PathBuf};

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map_or(manifest.clone(), PathBuf::from)
}

/// Where cargo builds: `$CARGO_TARGET_DIR`, else `target` in the checkout.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

/// `$MARKETRELAY_CACHE`, else `$XDG_CACHE_HOME/marketrelay`, else `~/.cache/marketrelay`.
pub fn cache() -> PathBuf {
    if let Some(dir) = env::var_os("MARKETRELAY_CACHE") {
        return dir.into();
    }
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    base.unwrap_or_else(|| home().join(".cache")).join("marketrelay")
}

/// A local cluster's folder.
pub fn cluster(name: &str) -> PathBuf {
    cache().join("clusters").join(name)
}
