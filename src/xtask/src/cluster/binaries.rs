//! Kubernetes and its neighbours, built from their Go modules once per hash of what they are built from.

use std::{fs, path::PathBuf};

use snafu::{OptionExt, ResultExt};

use crate::{
    paths,
    progress::step,
    run::{Result, command, output, read, run},
};

const KUBERNETES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// A program of `tests/cluster/<folder>`.
struct Module {
    folder: &'static str,
    package: &'static str,
    linker_flags: &'static str,
}

/// A module build knows no version of Kubernetes, and clients that ask the server for it refuse what they can't read.
const KUBE: Module = Module {
    folder: "kube",
    package: ".",
    linker_flags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 \
                   -X k8s.io/component-base/version.gitMajor=1 \
                   -X k8s.io/component-base/version.gitMinor=34 \
                   -X k8s.io/component-base/version.gitTreeState=clean",
};
const TOOLS: [Module; 4] = [
    tool("helm", "helm.sh/helm/v3/cmd/helm"),
    tool("coredns", "github.com/coredns/coredns"),
    tool("local-path-provisioner", "github.com/rancher/local-path-provisioner"),
    tool("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
];

const fn tool(folder: &'static str, package: &'static str) -> Module {
    Module { folder, package, linker_flags: "-s -w" }
}

/// The folder of links to all programs that a whole cluster needs; builds what isn't cached.
pub fn all() -> Result<PathBuf> {
    let mut programs = vec![(build(&KUBE)?, KUBERNETES.to_vec())];
    for tool in &TOOLS {
        programs.push((build(tool)?, vec![tool.folder]));
    }
    link(&programs)
}

/// The folder of links to what a control plane needs.
pub fn control_plane() -> Result<PathBuf> {
    link(&[(build(&KUBE)?, KUBERNETES.to_vec())])
}

fn link(programs: &[(PathBuf, Vec<&'static str>)]) -> Result<PathBuf> {
    let dir = paths::cache().join("links");
    fs::create_dir_all(&dir).whatever_context("can't make the folder of links")?;
    for (binary, names) in programs {
        for name in names {
            let (link, new) = (dir.join(name), dir.join(format!(".{name}.{}", std::process::id())));
            if fs::read_link(&link).is_ok_and(|target| target == *binary) {
                continue;
            }
            std::os::unix::fs::symlink(binary, &new).whatever_context("can't link a program")?;
            fs::rename(&new, &link).whatever_context("can't link a program")?;
        }
    }
    Ok(dir)
}

fn build(module: &Module) -> Result<PathBuf> {
    let source = paths::checkout().join("tests/cluster").join(module.folder);
    let target = paths::cache().join("bin").join(key(&source, module.linker_flags)?).join(module.folder);
    if target.exists() {
        return Ok(target);
    }
    step(format!("building {} from its Go module (minutes, once)", module.folder));
    let partial = target.with_extension(format!("partial-{}", std::process::id()));
    let mut go = command(&["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
    go.arg("-ldflags").arg(module.linker_flags).arg("-o").arg(&partial).arg(module.package);
    go.current_dir(&source).env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    output(&mut go)?;
    fs::rename(&partial, &target).whatever_context("can't keep the built program")?;
    Ok(target)
}

/// Go's version, the module's files and the flags above.
fn key(source: &std::path::Path, linker_flags: &str) -> Result<String> {
    let go = run(&["go", "version"]).whatever_context(
        "Go is needed to build Kubernetes: install Go 1.24 or newer and put `go` in the PATH",
    )?;
    let mut inputs = format!("{go}{linker_flags} CGO_ENABLED=0");
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(file);
        if path.exists() {
            inputs.push_str(&read(&path)?);
        }
    }
    let mut sha = std::process::Command::new("sha256sum");
    let input = paths::cache().join(format!(".key-{}", std::process::id()));
    crate::run::write(&input, &inputs)?;
    let sum = output(sha.arg(&input));
    fs::remove_file(&input).whatever_context("can't remove a temporary file")?;
    sum?.get(..16).map(str::to_owned).whatever_context("sha256sum printed nothing")
}
