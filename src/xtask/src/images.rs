//! `cargo xtask images`: our programs as images: the binary and the C library's files that it loads, nothing else.

use std::path::{Path, PathBuf};

use crate::{
    image::{self, Image},
    paths,
    progress::step,
    run::{Result, command, inherit, run},
};

/// What is built: the crate and its binary, which is also the image's last part.
const PROGRAMS: [(&str, &str); 5] = [
    ("marketrelay-operator", "operator"),
    ("marketrelay-relay", "relay"),
    ("marketrelay-notices", "notices"),
    ("marketrelay-backup", "backup"),
    ("marketrelay-sandbox", "sandbox"),
];

/// The tag of images for a registry.
pub const TAG: &str = "dev";

/// Images under one prefix and tag: `PREFIX/operator:TAG` and the others.
pub struct Images {
    /// Registry and path.
    pub prefix: String,
    /// The same for all.
    pub tag: String,
}

/// Builds all images into `target/images`, under `tag` or one that tells their programs from others; optimised for size
/// and speed if `release`. Gives them with their archives, as `docker load` and containerd import them.
pub fn build(prefix: &str, tag: Option<&str>, release: bool) -> Result<(Images, Vec<PathBuf>)> {
    step("building the programs");
    // Of the whole workspace, so that dependencies have the same features as in its tests and are built once.
    let mut cargo = command(&[env!("CARGO"), "build", "--quiet", "--locked", "--workspace", "--bins"]);
    cargo.args(release.then_some("--release")).current_dir(paths::checkout());
    inherit(&mut cargo)?;
    let target = paths::target();
    let programs = target.join("x86_64-unknown-linux-gnu").join(if release { "release" } else { "debug" });
    let tag = tag.map_or_else(|| content(&programs), |tag| Ok(tag.to_owned()))?;
    let mut archives = Vec::new();
    for (package, name) in PROGRAMS {
        let reference = format!("{prefix}/{name}:{tag}");
        let archive = target.join("images").join(format!("{name}.tar"));
        let path = format!("/{package}");
        let program = programs.join(package);
        let libraries = libraries(&program)?;
        let mut files = vec![(program, path.as_str())];
        files.extend(libraries.iter().map(|library| (PathBuf::from(library), library.as_str())));
        let image = Image {
            reference: &reference,
            files: &files,
            links: &[],
            entrypoint: &[&path],
            user: "65532:65532",
        };
        image::build(&image, &archive)?;
        step(format!("image {reference}: {}", archive.display()));
        archives.push(archive);
    }
    Ok((Images { prefix: prefix.to_owned(), tag }, archives))
}

/// Names the programs by what is in them: a pod whose image's name stays would keep running the old one.
fn content(programs: &Path) -> Result<String> {
    let sums = PROGRAMS.map(|(package, _)| run(&["sha256sum".as_ref(), programs.join(package).as_os_str()]));
    let sums = sums.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(format!("{TAG}-{}", sums.iter().map(|sum| &sum[..6]).collect::<String>()))
}

/// The shared libraries that a program loads. A static program would have OpenSSL built without locks (its build turns
/// threads off for static C code), and SQLCipher crashes then.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listed = run(&["ldd".as_ref(), program.as_os_str()])?;
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(words.map(str::to_owned).collect())
}
