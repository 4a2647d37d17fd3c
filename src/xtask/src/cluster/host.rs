//! What this machine itself is changed in while clusters are there; it gets its own back with the last of them.

use std::{fs, path::PathBuf};

use snafu::ResultExt;

use crate::{
    paths,
    run::{Result, read, write},
};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const FSCRYPT_CONFIG: &str = "/etc/fscrypt.conf";
const FSCRYPT_DEFAULTS: &str = r#"{
	"source": "custom_passphrase",
	"hash_costs": {"time": "18", "memory": "131072", "parallelism": "2"},
	"options": {"padding": "32", "contents": "AES_256_XTS", "filenames": "AES_256_CTS", "policy_version": "2"},
	"use_fs_keyring_for_v1_policies": false,
	"allow_cross_user_metadata": false
}
"#;

/// Forwards packets between clusters, and lets fscrypt work.
pub fn up() -> Result<()> {
    let before = read(FORWARD.as_ref())?;
    if before.trim() != "1" {
        write(&saved(), before)?;
        write(FORWARD.as_ref(), "1")?;
    }
    if !fs::exists(FSCRYPT_CONFIG).whatever_context("can't look for fscrypt's configuration")? {
        write(FSCRYPT_CONFIG.as_ref(), FSCRYPT_DEFAULTS)?;
    }
    Ok(())
}

/// As it was.
pub fn down() -> Result<()> {
    if let Ok(before) = fs::read(saved()) {
        write(FORWARD.as_ref(), before)?;
        fs::remove_file(saved()).whatever_context("can't forget the machine's own setting")?;
    }
    if has_our_config() {
        fs::remove_file(FSCRYPT_CONFIG).whatever_context("can't remove fscrypt's configuration")?;
    }
    Ok(())
}

/// What is still changed.
pub fn changed() -> Vec<String> {
    let forward = saved().exists().then(|| format!("{FORWARD} is changed"));
    let config = has_our_config().then(|| FSCRYPT_CONFIG.to_owned());
    forward.into_iter().chain(config).collect()
}

fn has_our_config() -> bool {
    fs::read_to_string(FSCRYPT_CONFIG).is_ok_and(|text| text == FSCRYPT_DEFAULTS)
}

fn saved() -> PathBuf {
    paths::cache().join("ip_forward.before")
}
