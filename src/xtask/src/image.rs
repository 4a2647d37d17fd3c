//! Images without a container engine: one layer, written as the archive that `docker save` writes, which containerd,
//! Docker and Podman import.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use snafu::ResultExt;

use crate::run::{Result, run, write};

/// What goes into an image.
pub struct Image<'a> {
    /// Full reference, such as `marketrelay.dev/relay:dev`.
    pub reference: &'a str,
    /// Files of this machine and their absolute paths in the image; all executable.
    pub files: &'a [(PathBuf, &'a str)],
    /// Symbolic links: target, path.
    pub links: &'a [(&'a str, &'a str)],
    /// Command.
    pub entrypoint: &'a [&'a str],
    /// `uid:gid`.
    pub user: &'a str,
}

/// Writes the image to `archive`.
pub fn build(image: &Image<'_>, archive: &Path) -> Result<()> {
    let work = archive.with_extension("work");
    if work.exists() {
        fs::remove_dir_all(&work).whatever_context("can't clear the image's folder")?;
    }
    let root = work.join("root");
    fs::create_dir_all(root.join("tmp")).whatever_context("can't make the image's folder")?;
    for (from, to) in image.files {
        let target = root.join(to.trim_start_matches('/'));
        write(&target, [])?;
        fs::copy(from, &target).with_whatever_context(|e| format!("can't copy {}: {e}", from.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
            .whatever_context("can't set a file's mode")?;
    }
    for (target, path) in image.links {
        let link = root.join(path.trim_start_matches('/'));
        write(&link, [])?;
        fs::remove_file(&link).and_then(|()| symlink(target, &link)).whatever_context("can't make a link")?;
    }
    pack(image, &work, archive)?;
    fs::remove_dir_all(&work).whatever_context("can't remove the image's folder")
}

fn pack(image: &Image<'_>, work: &Path, archive: &Path) -> Result<()> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let (root, layer) = (text(work.join("root")), text(work.join("layer.tar")));
    run(&[
        "tar",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-C",
        &root,
        "-cf",
        &layer,
        ".",
    ])?;
    let digest = run(&["sha256sum", &layer])?.chars().take(64).collect::<String>();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": image.entrypoint, "User": image.user},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [image.reference], "Layers": ["layer.tar"]}]);
    write(&work.join("config.json"), config.to_string())?;
    write(&work.join("manifest.json"), manifest.to_string())?;
    let (dir, archive) = (text(work.to_path_buf()), archive.to_string_lossy());
    run(&["tar", "-C", &dir, "-cf", &archive, "manifest.json", "config.json", "layer.tar"])?;
    Ok(())
}
