//! `cargo xtask demo`: a customer with three connections on a real cluster, from YAML to the customer's system.

use std::time::Duration;

use clap::Args;
use snafu::{OptionExt, ResultExt, ensure_whatever};

use crate::{
    cluster::{self, Authority},
    images,
    kube::Kube,
    paths,
    progress::step,
    run::{Result, output, wait_for},
};

const CLUSTER: &str = "demo";
const SYSTEM: &str = "marketrelay-system";
const SANDBOX: &str = "marketrelay-sandbox";
const CUSTOMER: &str = "acme";
/// Of the sandbox's control API, as in manifests/sandbox.
const TOKEN: &str = "demo";
const IMAGES: &str = "marketrelay.dev";

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
    let (kube, prefix) = match &arguments.context {
        None => (local()?, IMAGES.to_owned()),
        Some(context) => (Kube::existing(context), existing(arguments)?),
    };
    let authority = sandbox(&kube, &prefix)?;
    install(&kube, &prefix, &authority)?;
    customer(&kube)?;
    show(&kube)?;
    farewell(&kube, arguments);
    Ok(())
}

fn local() -> Result<Kube> {
    let access = cluster::up(CLUSTER)?;
    for image in images::build(IMAGES, false)? {
        cluster::load(CLUSTER, &image.archive)?;
    }
    Ok(Kube::local(&access))
}

fn existing(arguments: &Arguments) -> Result<String> {
    let prefix = arguments.images.clone();
    prefix.whatever_context(
        "the cluster can't pull images that are only on this machine: run `cargo xtask images --prefix \
         REGISTRY/PATH`, load and push the archives that it names, and add --images REGISTRY/PATH",
    )
}

/// The simulators, with a certificate of their own; gives the authority that signed it.
fn sandbox(kube: &Kube, prefix: &str) -> Result<String> {
    step("sandbox: simulators of the three marketplaces and of the customer's system");
    let manifests = paths::checkout().join("manifests/sandbox");
    let text = output(&mut kube.kubectl(&["kustomize", &manifests.to_string_lossy()]))?;
    kube.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SANDBOX}}}\n"))?;
    let authority = certificate(kube)?;
    kube.apply(&text.replace(&format!("{IMAGES}/"), &format!("{prefix}/")))?;
    restart_on_new_image(kube, SANDBOX, "deployment/sandbox")?;
    Ok(authority)
}

/// Kept once made, so that running twice changes nothing.
fn certificate(kube: &Kube) -> Result<String> {
    let path = "--output=go-template={{index .data \"ca.crt\" | base64decode}}";
    if let Ok(authority) = kube.get(&["get", "secret", "sandbox-tls", "--namespace", SANDBOX, path]) {
        return Ok(authority);
    }
    let authority = Authority::new()?;
    let host = format!("sandbox.{SANDBOX}.svc");
    let identity = authority.issue("marketrelay sandbox", None, &[host])?;
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "sandbox-tls", "namespace": SANDBOX},
        "stringData": {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": authority.pem()},
    });
    kube.apply(&secret.to_string())?;
    Ok(authority.pem().to_owned())
}

/// The tag stays `dev`: pods of an older build are replaced by deleting them.
fn restart_on_new_image(kube: &Kube, namespace: &str, workload: &str) -> Result<()> {
    kube.get(&["rollout", "status", workload, "--namespace", namespace, "--timeout=120s"])?;
    Ok(())
}

fn install(kube: &Kube, prefix: &str, authority: &str) -> Result<()> {
    step("helm: the operator and its CustomResourceDefinitions");
    let checkout = paths::checkout();
    let file = checkout.join("target/demo-authority.pem");
    crate::run::write(&file, authority)?;
    let chart = checkout.join("charts/marketrelay").display().to_string();
    let values = checkout.join("manifests/samples/values-demo.yaml").display().to_string();
    let authority = format!("egress.extraCaCertificates={}", file.display());
    let images =
        [format!("image.repository={prefix}/operator"), format!("relay.image.repository={prefix}/relay")];
    let mut helm = kube.helm(&["upgrade", "--install", "marketrelay", &chart, "--namespace", SYSTEM]);
    helm.args(["--create-namespace", "--values", &values, "--set-file", &authority]);
    helm.args(["--set", &images[0], "--set", &images[1], "--wait", "--timeout=180s"]);
    output(&mut helm)?;
    Ok(())
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
    let marketplaces = ["amazon", "ebay", "bol"];
    wait_for("orders of all three marketplaces", Duration::from_mins(3), || {
        screen(kube).is_ok_and(|screen| marketplaces.iter().all(|name| screen.contains(name)))
    })
}

/// What the customer's system received, as the sandbox shows it.
fn screen(kube: &Kube) -> Result<String> {
    kube.get(&["get", "--raw", &screen_path()])
}

fn screen_path() -> String {
    format!(
        "/api/v1/namespaces/{SANDBOX}/services/https:sandbox:443/proxy/control/customers/{CUSTOMER}/screen?token={TOKEN}"
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
        "statefulsets,pods,persistentvolumeclaims,services,networkpolicies,secrets,configmaps",
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
         kubectl logs --namespace {SYSTEM} deployment/marketrelay\n  \
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
    kube.get(&["delete", "namespace", CUSTOMER, ignore])?;
    let listed = output(&mut kube.helm(&["list", "--namespace", SYSTEM, "--short"]))?;
    if listed.lines().any(|name| name == "marketrelay") {
        output(&mut kube.helm(&["uninstall", "marketrelay", "--namespace", SYSTEM, "--wait"]))?;
    }
    let left =
        kube.get(&["get", "marketplaceconnections,retentionpolicies", "--all-namespaces", "--output=name"]);
    ensure_whatever!(
        left.as_deref().unwrap_or_default().trim().is_empty(),
        "other connections or policies exist: the CustomResourceDefinitions stay"
    );
    let definitions = ["marketplaceconnections.marketrelay.dev", "retentionpolicies.marketrelay.dev"];
    kube.get(&[&["delete", "customresourcedefinition", ignore], &definitions[..]].concat())?;
    kube.get(&["delete", "namespace", SYSTEM, SANDBOX, ignore])
        .whatever_context("can't delete the namespaces")?;
    step("gone");
    Ok(())
}
