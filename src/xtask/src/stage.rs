//! What the demo and the e2e tests play on: a cluster with our images, the simulators, the operator.

use marketrelay_api::backup::Site;
use serde_json::{Value, json};
use snafu::ResultExt;

use crate::{
    cluster::{self, Authority},
    images::{self, Images, TAG},
    kube::Kube,
    paths,
    progress::step,
    run::{Result, output},
};

/// Where the operator is installed.
pub const SYSTEM: &str = "marketrelay-system";
/// Where the simulators are.
pub const SANDBOX: &str = "marketrelay-sandbox";
/// In a local cluster's stores, the bucket of connections that name none.
pub const BUCKET: &str = "relays";
/// Before the names of images that were built here.
const PREFIX: &str = "marketrelay.dev";

/// A local cluster with images of this checkout.
pub fn local(cluster: &str) -> Result<(Kube, Images)> {
    let access = cluster::up(cluster)?;
    let (images, archives) = images::build(PREFIX, None, false)?;
    for archive in archives {
        cluster::load(cluster, &archive)?;
    }
    Ok((Kube::local(&access), images))
}

/// Simulators and operator. `cluster`: the local one, whose S3 servers are trusted then.
pub fn up(kube: &Kube, images: &Images, cluster: Option<&str>) -> Result<()> {
    let mut authorities = sandbox(kube, images)?;
    let mut stores = json!({});
    if let Some(cluster) = cluster {
        // Both servers have the same.
        authorities += &crate::run::read(&cluster::s3(cluster, Site::OnSite)?.authority)?;
        stores = json!({"onSite": store(cluster, Site::OnSite)?, "offSite": store(cluster, Site::OffSite)?});
    }
    install(kube, images, &json!({"egress": {"extraCaCertificates": authorities}, "backup": stores}))
}

/// What connections needn't say of a site's store.
fn store(cluster: &str, site: Site) -> Result<Value> {
    let s3 = cluster::s3(cluster, site)?;
    Ok(json!({"s3": {"endpoint": s3.endpoint, "bucket": BUCKET, "region": s3.region}}))
}

/// The simulators, with a certificate of their own; gives the authority that signed it.
fn sandbox(kube: &Kube, images: &Images) -> Result<String> {
    step("sandbox: simulators of the three marketplaces and of the customer's system");
    let manifests = paths::checkout().join("manifests/sandbox");
    let text = output(&mut kube.kubectl(&["kustomize", &manifests.to_string_lossy()]))?;
    kube.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SANDBOX}}}\n"))?;
    let authority = certificate(kube)?;
    let Images { prefix, tag } = images;
    kube.apply(&text.replace(&format!("{PREFIX}/sandbox:{TAG}"), &format!("{prefix}/sandbox:{tag}")))?;
    kube.get(&["rollout", "status", "deployment/sandbox", "--namespace", SANDBOX, "--timeout=120s"])?;
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
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "sandbox-tls", "namespace": SANDBOX},
        "stringData": {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": authority.pem()},
    });
    kube.apply(&secret.to_string())?;
    Ok(authority.pem().to_owned())
}

fn install(kube: &Kube, images: &Images, own: &Value) -> Result<()> {
    step("helm: the operator and its CustomResourceDefinitions");
    let checkout = paths::checkout();
    let file = paths::target().join(format!("values-{}.json", std::process::id()));
    crate::run::write(&file, own.to_string())?;
    let chart = checkout.join("charts/marketrelay").display().to_string();
    let samples = checkout.join("manifests/samples");
    let values = ["values-demo.yaml", "values-ebay-notices.yaml"];
    let values = values.map(|name| format!("--values={}", samples.join(name).display()));
    kube.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n"))?;
    kube.apply(&crate::run::read(&samples.join("ebay-application.yaml"))?)?;
    let own = format!("--values={}", file.display());
    let Images { prefix, tag } = images;
    let operator = format!("image.repository={prefix}/operator,image.tag={tag}");
    let relay = format!("relay.image.repository={prefix}/relay,relay.image.tag={tag}");
    let backup = format!("backup.image.repository={prefix}/backup,backup.image.tag={tag}");
    let notices = format!("ebayNotices.image.repository={prefix}/notices,ebayNotices.image.tag={tag}");
    let mut helm = kube.helm(&["upgrade", "--install", "marketrelay", &chart, "--namespace", SYSTEM]);
    helm.args(values).arg(own);
    helm.args([
        "--set",
        &operator,
        "--set",
        &relay,
        "--set",
        &backup,
        "--set",
        &notices,
        "--wait",
        "--timeout=180s",
    ]);
    let installed = output(&mut helm);
    std::fs::remove_file(&file).whatever_context("can't remove the values of the installation")?;
    installed.map(drop)
}
