//! Backups of the demo: one connection, two S3 servers, a drill of each.

use marketrelay_api::backup::Site;

use super::CUSTOMER;
use crate::{
    cluster,
    kube::Kube,
    paths,
    progress::step,
    run::{Result, read},
    stage::BUCKET,
};

/// The account that the sample has in the place of the server's.
fn placeholder(site: Site) -> &'static str {
    match site {
        Site::OnSite => "acme-onsite",
        Site::OffSite => "acme-offsite",
    }
}

/// Lets the sample's connection be backed up, and waits until both sites' first backups are written and restored.
pub fn show(kube: &Kube, cluster: &str) -> Result<()> {
    step("kubectl apply: backups of bol to two S3 servers (manifests/samples/backup.yaml)");
    let mut sample = read(&paths::checkout().join("manifests/samples/backup.yaml"))?;
    for site in Site::ALL {
        let s3 = cluster::s3(cluster, site)?;
        s3.make_bucket(BUCKET)?;
        let name = placeholder(site);
        sample = sample
            .replace(
                &format!("secretAccessKey: {name}-secret"),
                &format!("secretAccessKey: {}", s3.secret_key),
            )
            .replace(&format!("accessKeyId: {name}"), &format!("accessKeyId: {}", s3.access_key));
    }
    kube.apply_in(CUSTOMER, &sample)?;
    step("waiting until both sites have a backup that a drill has restored");
    for kind in ["BackedUpOnSite", "BackedUpOffSite", "DrilledOnSite", "DrilledOffSite"] {
        let condition = format!("--for=condition={kind}");
        if let Err(error) =
            kube.get(&["wait", &condition, "mconn/bol", "--namespace", CUSTOMER, "--timeout=180s"])
        {
            kube.show(&[
                "get",
                "jobs,pods",
                "--namespace",
                CUSTOMER,
                "--selector=marketrelay.dev/connection=bol",
            ])?;
            kube.show(&["describe", "mconn", "bol", "--namespace", CUSTOMER])?;
            return Err(error);
        }
    }
    Ok(())
}
