//! `cargo xtask demo`: a customer with three connections on a real cluster, from YAML to the customer's system.

mod backups;

use std::time::Duration;

use clap::Args;
use snafu::{OptionExt, ResultExt, ensure_whatever};

use crate::{
    cluster,
    images::{Images, TAG},
    kube::Kube,
    paths,
    progress::step,
    run::{Result, output, wait_for},
    stage::{self, SANDBOX, SYSTEM},
};

const CLUSTER: &str = "demo";
const CUSTOMER: &str = "acme";
/// Of the sandbox's control API, as in manifests/sandbox.
const TOKEN: &str = "demo";

/// `cargo xtask demo …`
#[derive(Args)]
pub struct Arguments {
    /// Use this context of your kubeconfig instead of a local cluster; kubectl and helm must be in the PATH.
    #[arg(long)]
    context: Option<String>,
    /// With --context: the registry and path that operator:dev, relay:dev and sandbox:dev were pushed to.
    #[arg(long, requires = "context")]
    images: Option<String>,
    /// Remove all that the demo made, its local cluster included.
    #[arg(long)]
    down: bool,
}

/// Shows the whole of it, or takes it away.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.down {
        return down(arguments);
    }
    let (kube, images) = match &arguments.context {
        None => stage::local(CLUSTER)?,
        Some(context) => (Kube::existing(context), existing(arguments)?),
    };
    stage::up(&kube, &images, arguments.context.is_none().then_some(CLUSTER))?;
    customer(&kube)?;
    if arguments.context.is_none() {
        backups::show(&kube, CLUSTER)?;
    }
    show(&kube)?;
    farewell(&kube, arguments);
    Ok(())
}

fn existing(arguments: &Arguments) -> Result<Images> {
    let prefix = arguments.images.clone().whatever_context(
        "the cluster can't pull images that are only on this machine: run `cargo xtask images --prefix \
         REGISTRY/PATH`, load and push the archives that it names, and add --images REGISTRY/PATH",
    )?;
    Ok(Images { prefix, tag: TAG.to_owned() })
}

fn customer(kube: &Kube) -> Result<()> {
    step(format!("kubectl apply: customer {CUSTOMER} with an Amazon, an eBay and a Bol.com connection"));
    let samples = paths::checkout().join("manifests/samples").display().to_string();
    output(&mut kube.kubectl(&["apply", "--kustomize", &samples]))?;
    step("waiting until the connections are Ready");
    let wait = ["wait", "--for=condition=Ready", "mconn", "--all", "--namespace", CUSTOMER, "--timeout=240s"];
    if let Err(error) = kube.get(&wait) {
        kube.show(&["get", "mconn,pods", "--namespace", CUSTOMER, "--output=wide"])?;
        kube.show(&["get", "events", "--namespace", CUSTOMER, "--sort-by=.metadata.creationTimestamp"])?;
        return Err(error);
    }
    step("waiting until orders of all three have arrived at the customer's system");
    wait_for("orders of all three marketplaces", Duration::from_mins(3), || {
        kube.get(&["get", "--raw", &control_path("")]).is_ok_and(|summary| connections(&summary) == 3)
    })
}

/// How many connections' orders have arrived, by the sandbox's summary of a customer.
fn connections(summary: &str) -> usize {
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap_or_default();
    summary["ordersByConnection"].as_object().map_or(0, serde_json::Map::len)
}

/// What the customer's system received, as the sandbox shows it.
fn screen(kube: &Kube) -> Result<String> {
    kube.get(&["get", "--raw", &screen_path()])
}

fn screen_path() -> String {
    control_path("/screen")
}

fn control_path(page: &str) -> String {
    format!(
        "/api/v1/namespaces/{SANDBOX}/services/https:sandbox:443/proxy/control/customers/{CUSTOMER}{page}?token={TOKEN}"
    )
}

fn show(kube: &Kube) -> Result<()> {
    step("done; this is what a platform engineer looks at:");
    let space = ["--namespace", CUSTOMER];
    let with = |words: &[&'static str]| [words, &space].concat();
    kube.show(&with(&["get", "marketplaceconnections,retentionpolicies"]))?;
    kube.show(&with(&["describe", "mconn", "bol"]))?;
    kube.show(&with(&[
        "get",
        "statefulsets,cronjobs,pods,persistentvolumeclaims,services,networkpolicies,secrets,configmaps",
        "--selector=marketrelay.dev/connection=bol",
    ]))?;
    kube.show(&with(&["get", "events", "--sort-by=.metadata.creationTimestamp"]))?;
    println!("\nWhat arrived at the customer's system:\n");
    println!("$ kubectl get --raw '{}'", screen_path());
    println!("{}", screen(kube)?);
    Ok(())
}

fn farewell(kube: &Kube, arguments: &Arguments) {
    let context =
        arguments.context.as_ref().map(|context| format!(" --context {context}")).unwrap_or_default();
    println!(
        "\nLook further:\n  {}\n  kubectl explain mconn.spec\n  kubectl logs --namespace {CUSTOMER} bol-relay-0\n  \
         kubectl logs --namespace {SYSTEM} --selector app.kubernetes.io/component=operator --prefix --tail=-1\n  \
         kubectl edit retpol standard --namespace {CUSTOMER}\nTear down:\n  cargo xtask demo --down{context}",
        kube.hint()
    );
}

fn down(arguments: &Arguments) -> Result<()> {
    let Some(context) = &arguments.context else {
        return cluster::down(CLUSTER);
    };
    let kube = Kube::existing(context);
    step("removing the customer, the operator, the sandbox and the CustomResourceDefinitions");
    let ignore = "--ignore-not-found";
    let definitions = [
        "connectionrecords.marketrelay.dev",
        "erasurerequests.marketrelay.dev",
        "marketplaceconnections.marketrelay.dev",
        "retentionpolicies.marketrelay.dev",
    ];
    kube.get(&["delete", "namespace", CUSTOMER, ignore])?;
    let installed = kube
        .get(&[&["get", "customresourcedefinition", ignore, "--output=name"], &definitions[..]].concat())?;
    if !installed.trim().is_empty() {
        let all = ["get", "marketplaceconnections,retentionpolicies", "--all-namespaces", "--output=name"];
        let left = kube.get(&all)?;
        ensure_whatever!(
            left.trim().is_empty(),
            "other connections or policies exist, so the operator and the CustomResourceDefinitions stay:\n{left}"
        );
    }
    let listed = output(&mut kube.helm(&["list", "--namespace", SYSTEM, "--short"]))?;
    if listed.lines().any(|name| name == "marketrelay") {
        output(&mut kube.helm(&["uninstall", "marketrelay", "--namespace", SYSTEM, "--wait"]))?;
    }
    kube.get(&[&["delete", "customresourcedefinition", ignore], &definitions[..]].concat())?;
    kube.get(&["delete", "namespace", SYSTEM, SANDBOX, ignore])
        .whatever_context("can't delete the namespaces")?;
    step("gone");
    Ok(())
}
