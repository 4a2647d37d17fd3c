//! Kubernetes and its neighbours, built from their Go modules once per hash of what they are built from.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

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

/// A program of the module in `tests/cluster/<folder>`.
struct Program {
    name: &'static str,
    folder: &'static str,
    package: &'static str,
    linker_flags: &'static str,
}

/// A module build knows no version of Kubernetes, and clients that ask the server for it refuse what they can't read.
const KUBE: Program = Program {
    name: "kube",
    folder: "kube",
    package: ".",
    linker_flags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 \
                   -X k8s.io/component-base/version.gitMajor=1 \
                   -X k8s.io/component-base/version.gitMinor=34 \
                   -X k8s.io/component-base/version.gitTreeState=clean",
};
/// In the module of Kubernetes, so that what they share is compiled once.
const HELM: Program = tool("helm", "kube", "helm.sh/helm/v3/cmd/helm");
const COREDNS: Program = tool("coredns", "kube", "./coredns");
const PROVISIONER: Program =
    tool("local-path-provisioner", "local-path-provisioner", "github.com/rancher/local-path-provisioner");
const VERSITYGW: Program = tool("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw");
const KWOK: Program = tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok");
/// What a whole cluster has, in the order in which tests need it.
const ALL: [Program; 5] = [VERSITYGW, KUBE, HELM, COREDNS, PROVISIONER];

const fn tool(name: &'static str, folder: &'static str, package: &'static str) -> Program {
    Program { name, folder, package, linker_flags: "-s -w" }
}

/// Builds what isn't cached of all programs that a whole cluster needs.
pub fn prefetch() -> Result<()> {
    ALL.iter().try_for_each(|program| build(program).map(drop))
}

/// The folder of links to all programs that a whole cluster needs; builds what isn't cached.
pub fn all() -> Result<PathBuf> {
    let programs = ALL.iter().map(|program| Ok((build(program)?, names(program))));
    link(&programs.collect::<Result<Vec<_>>>()?)
}

/// The folder of links to what a control plane needs.
pub fn control_plane() -> Result<PathBuf> {
    link(&[(build(&KUBE)?, names(&KUBE))])
}

/// The folder of links to what a control plane with simulated nodes needs.
pub fn simulation() -> Result<PathBuf> {
    link(&[(build(&KUBE)?, names(&KUBE)), (build(&KWOK)?, names(&KWOK))])
}

/// The folder of links as the last build left it; builds nothing.
pub fn links() -> PathBuf {
    paths::cache().join("links")
}

/// helm alone.
pub fn helm() -> Result<PathBuf> {
    build(&HELM)
}

/// versitygw alone, an S3 server.
pub fn versitygw() -> Result<PathBuf> {
    build(&VERSITYGW)
}

/// What a program is called by.
fn names(program: &Program) -> Vec<&'static str> {
    if program.name == KUBE.name { KUBERNETES.to_vec() } else { vec![program.name] }
}

fn link(programs: &[(PathBuf, Vec<&'static str>)]) -> Result<PathBuf> {
    let dir = links();
    let wanted = programs.iter().flat_map(|(binary, names)| names.iter().map(move |name| (binary, name)));
    let is_linked =
        |binary: &PathBuf, name: &str| fs::read_link(dir.join(name)).is_ok_and(|to| to == *binary);
    for (binary, name) in wanted.filter(|(binary, name)| !is_linked(binary, name)) {
        let new = dir.join(format!(".{name}.{}", std::process::id()));
        fs::create_dir_all(&dir)
            .and_then(|()| symlink(binary, &new))
            .and_then(|()| fs::rename(&new, dir.join(name)))
            .with_whatever_context(|e| format!("can't link {name} in {}: {e}", dir.display()))?;
    }
    Ok(dir)
}

fn build(program: &Program) -> Result<PathBuf> {
    let source = paths::checkout().join("tests/cluster").join(program.folder);
    let dir = paths::cache().join("bin").join(key(&source, program.linker_flags)?);
    let target = dir.join(program.name);
    if target.exists() {
        return Ok(target);
    }
    let _alone = alone(&dir, program.name)?;
    if target.exists() {
        return Ok(target);
    }
    step(format!("building {} from its Go module (minutes, once)", program.name));
    let partial = target.with_extension("partial");
    // Beside our own programs it takes what time they leave.
    let mut go = command(&["nice", "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
    go.arg("-ldflags").arg(program.linker_flags).arg("-o").arg(&partial).arg(program.package);
    go.current_dir(&source).env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    output(&mut go)?;
    fs::rename(&partial, &target).whatever_context("can't keep the built program")?;
    Ok(target)
}

/// Only one command at a time builds a program; the lock ends with the command, also if that is killed.
fn alone(dir: &Path, program: &str) -> Result<File> {
    fs::create_dir_all(dir).with_whatever_context(|e| format!("can't make {}: {e}", dir.display()))?;
    let path = dir.join(".lock");
    let file =
        File::create(&path).with_whatever_context(|e| format!("can't make {}: {e}", path.display()))?;
    if file.try_lock().is_err() {
        step(format!("waiting for another command that builds {program}"));
        file.lock().whatever_context("can't wait for the other command")?;
    }
    Ok(file)
}

/// Go's version, the module's files and the flags above.
fn key(source: &Path, linker_flags: &str) -> Result<String> {
    let go = run(&["go", "version"]).whatever_context(
        "Go is needed to build Kubernetes: install Go 1.26 or newer and put `go` in the PATH",
    )?;
    let mut inputs = format!("{go}{linker_flags} CGO_ENABLED=0");
    for file in ["go.mod", "go.sum", "main.go", "coredns/main.go"] {
        let path = source.join(file);
        if path.exists() {
            inputs.push_str(&read(&path)?);
        }
    }
    let mut sha = Command::new("sha256sum");
    let mut child =
        sha.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().whatever_context("can't run sha256sum")?;
    let mut input = child.stdin.take().whatever_context("sha256sum has no input")?;
    input.write_all(inputs.as_bytes()).whatever_context("can't write to sha256sum")?;
    drop(input);
    let out = child.wait_with_output().whatever_context("can't wait for sha256sum")?;
    let sum = String::from_utf8_lossy(&out.stdout);
    sum.get(..16).map(str::to_owned).whatever_context("sha256sum printed nothing")
}
