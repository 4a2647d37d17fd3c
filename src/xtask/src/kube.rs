//! kubectl and helm against one cluster.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use snafu::{OptionExt, ResultExt, ensure_whatever};

use crate::{
    cluster::Access,
    run::{Result, inherit, output},
};

/// Which cluster, and the programs to talk to it.
pub struct Kube {
    kubeconfig: Option<PathBuf>,
    context: String,
    /// Folder of kubectl and helm; without one they are found in the `PATH`.
    bin: Option<PathBuf>,
}

impl Kube {
    /// A local cluster.
    pub fn local(access: &Access) -> Self {
        Self {
            kubeconfig: Some(access.kubeconfig.clone()),
            context: access.context.clone(),
            bin: Some(access.bin.clone()),
        }
    }

    /// A context of the user's own kubeconfig.
    pub fn existing(context: &str) -> Self {
        Self { kubeconfig: None, context: context.to_owned(), bin: None }
    }

    /// The words that a person puts before a kubectl command to talk to the same cluster.
    pub fn hint(&self) -> String {
        match &self.kubeconfig {
            Some(_) => {
                let name = self.context.strip_prefix("marketrelay-").unwrap_or(&self.context);
                format!("eval \"$(cargo xtask cluster env {name})\"")
            }
            None => format!("kubectl config use-context {}", self.context),
        }
    }

    fn program(&self, name: &str, context_flag: &str) -> Command {
        let path = self.bin.as_ref().map_or_else(|| PathBuf::from(name), |bin| bin.join(name));
        let mut command = Command::new(path);
        if let Some(kubeconfig) = &self.kubeconfig {
            // Discovery of a former cluster with the same address would be taken from the shared cache for hours.
            command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl"));
        }
        command.arg(context_flag).arg(&self.context);
        command
    }

    /// kubectl with these words.
    pub fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = self.program("kubectl", "--context");
        command.args(words);
        command
    }

    /// helm with these words.
    pub fn helm(&self, words: &[&str]) -> Command {
        let mut command = self.program("helm", "--kube-context");
        command.args(words);
        command
    }

    /// What kubectl prints.
    pub fn get(&self, words: &[&str]) -> Result<String> {
        output(&mut self.kubectl(words))
    }

    /// Shows a command as a person would type it, and what it prints.
    pub fn show(&self, words: &[&str]) -> Result<()> {
        println!("\n$ kubectl {}", words.join(" "));
        inherit(&mut self.kubectl(words))
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.apply_with(&[], manifest)
    }

    /// Applies a manifest whose objects have no namespace of their own.
    pub fn apply_in(&self, namespace: &str, manifest: &str) -> Result<()> {
        self.apply_with(&["--namespace", namespace], manifest)
    }

    fn apply_with(&self, words: &[&str], manifest: &str) -> Result<()> {
        let mut kubectl = self.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename=-"]);
        kubectl.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().whatever_context("can't run kubectl")?;
        let mut input = child.stdin.take().whatever_context("kubectl has no input")?;
        input.write_all(manifest.as_bytes()).whatever_context("can't write to kubectl")?;
        drop(input);
        let out = child.wait_with_output().whatever_context("can't wait for kubectl")?;
        ensure_whatever!(out.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}
