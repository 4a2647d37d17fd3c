//! `cargo xtask images`: our programs as images, one static binary each.

use std::path::PathBuf;

use crate::{
    image::{self, Image},
    paths,
    progress::step,
    run::{Result, command, inherit},
};

/// What is built: the crate and its binary, which is also the image's last part.
const PROGRAMS: [(&str, &str); 3] = [
    ("marketrelay-operator", "operator"),
    ("marketrelay-relay", "relay"),
    ("marketrelay-sandbox", "sandbox"),
];

/// An image that was built.
pub struct Built {
    /// As manifests name it.
    pub reference: String,
    /// As `docker load` and containerd import it.
    pub archive: PathBuf,
}

/// Builds all images into `target/images`; optimised for size and speed if `release`.
pub fn build(prefix: &str, release: bool) -> Result<Vec<Built>> {
    step("building the programs");
    let mut cargo = command(&[env!("CARGO"), "build", "--quiet", "--locked", "--bins"]);
    cargo.args(PROGRAMS.iter().flat_map(|(package, _)| ["--package", package]));
    cargo.args(release.then_some("--release")).current_dir(paths::checkout());
    inherit(&mut cargo)?;
    let target = paths::checkout().join("target");
    let programs = target.join("x86_64-unknown-linux-gnu").join(if release { "release" } else { "debug" });
    let mut built = Vec::new();
    for (package, name) in PROGRAMS {
        let reference = format!("{prefix}/{name}:dev");
        let archive = target.join("images").join(format!("{name}.tar"));
        let path = format!("/{package}");
        let files = [(programs.join(package), path.as_str())];
        let image = Image {
            reference: &reference,
            files: &files,
            links: &[],
            entrypoint: &[&path],
            user: "65532:65532",
        };
        image::build(&image, &archive)?;
        step(format!("image {reference}: {}", archive.display()));
        built.push(Built { reference, archive });
    }
    Ok(built)
}
