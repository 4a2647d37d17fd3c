//! The whole cluster is lost, etcd and volumes and all, and what is left is the off-site store and an identity: three parts, between
//! which `cargo xtask e2e` loses the cluster and makes another one (docs/runbooks/lost-cluster.md).

use std::{fs, path::PathBuf, time::Duration};

use age::{secrecy::ExposeSecret, x25519::Identity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use marketrelay_api::{backup::Site, connection::RestoreCause, labels};
use serde_json::{Value, json};
use xtask::{paths, stage::BUCKET};

use crate::{
    backups::{files, program, store, told},
    closure,
    cluster::{SYSTEM, kube, s3, wait_for},
    erasure, restores,
    tenant::{Tenant, with_tenant},
};

const NAME: &str = "lost";
/// Jobs' turns, a pod's start, on a busy machine.
const SOON: Duration = Duration::from_mins(4);

/// What outlives the cluster: the identity, what was recovered, what must be as before.
fn kept(name: &str) -> PathBuf {
    paths::target().join("lost-cluster").join(name)
}

fn connection(tenant: &Tenant) -> Value {
    let mut connection = restores::with_backups(tenant, &[Site::OffSite]);
    connection["spec"]["backup"]["suspend"] = json!(false);
    connection
}

/// What must be the same in the new cluster.
async fn facts(tenant: &Tenant) -> String {
    let status = tenant.get("bol").await.expect("a connection").status.expect("a status");
    let audit = status.audit.expect("a head");
    json!({"id": status.connection_id, "publicKey": audit.public_key, "chain": audit.chain}).to_string()
}

/// The keys as they are after `since` have reached the store.
async fn escrowed(tenant: &Tenant, since: Timestamp) {
    wait_for("the newest keys are escrowed", SOON, async || {
        let keys = tenant.api::<Secret>().get("bol-escrow").await.map_err(|error| error.to_string())?;
        let newest = keys.annotations().get(labels::FINGERPRINT).ok_or("no fingerprint")?;
        let at = keys.annotations().get(labels::FINGERPRINT_SINCE).ok_or("no time")?;
        let at: Timestamp = at.parse().map_err(|_| at.clone())?;
        let told = told(tenant, Site::OffSite).await?;
        let escrowed = told.escrowed.as_ref().ok_or_else(|| format!("{told:?}"))?;
        if at > since && escrowed.fingerprint == *newest { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

/// The operator escrows keys for the identity, and a CronJob drills with it what is below the tenant's prefix.
fn configure(tenant: &Tenant) {
    let identity = fs::read_to_string(kept("identity")).unwrap_or_else(|_| {
        fs::create_dir_all(kept("")).expect("a folder");
        let identity = Identity::generate().to_string().expose_secret().to_owned();
        fs::write(kept("identity"), &identity).expect("written");
        identity
    });
    let recipient = identity.parse::<Identity>().expect("an identity").to_public().to_string();
    let s3 = s3(Site::OffSite);
    for (name, entries) in [
        ("escrow-identity", json!({"identity": identity})),
        ("off-site-reader", json!({"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key})),
    ] {
        let metadata = json!({"name": name, "namespace": SYSTEM});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries});
        kube().apply(&secret.to_string()).expect("a Secret");
    }
    let store =
        json!({"endpoint": s3.endpoint, "region": s3.region, "bucket": BUCKET, "prefix": tenant.name});
    let drill = json!({"enabled": true, "identitySecret": {"name": "escrow-identity"},
        "credentialsSecret": {"name": "off-site-reader"}});
    let values =
        json!({"backup": {"offSite": {"s3": store}, "escrow": {"recipients": [recipient], "drill": drill}}});
    fs::write(kept("values.json"), values.to_string()).expect("written");
    let chart = paths::checkout().join("charts/marketrelay").display().to_string();
    let mut helm = kube().helm(&["upgrade", "marketrelay", &chart, "--namespace", SYSTEM, "--reuse-values"]);
    helm.arg("--values").arg(kept("values.json")).args(["--wait", "--timeout=180s"]);
    xtask::run::output(&mut helm).expect("an operator that escrows keys");
}

#[tokio::test]
async fn before_it_a_drill_opens_escrowed_keys_and_those_of_a_deleted_connection_leave_the_store() {
    drop(fs::remove_dir_all(kept("")));
    with_tenant("escrow", |tenant| async move {
        configure(&tenant);
        tenant.seller("bol", 2).await;
        tenant.apply(&connection(&tenant));
        tenant.all_arrived("bol").await;
        tenant.condition("bol", "Escrowed", "True", Some("Escrowed")).await;
        restores::newer_backup(&tenant, Site::OffSite).await;
        let system = ["--namespace", SYSTEM];
        let job = ["create", "job", "--from=cronjob/marketrelay-escrow-drill", "now-1"];
        kube().get(&[&system[..], &job].concat()).expect("a Job");
        let ended = ["wait", "--for=condition=Complete", "--timeout=180s", "job/now-1"];
        kube().get(&[&system[..], &ended].concat()).expect("a drill that succeeds");
        let table = kube().get(&[&system[..], &["logs", "job/now-1"]].concat()).expect("a table");
        let row = table.lines().find(|line| line.contains(&tenant.name)).expect("a row");
        assert!(row.contains("bol") && !table.contains("AGE-SECRET"), "{table}");
        kube().get(&[&system[..], &["delete", "job", "now-1"]].concat()).expect("deleted");

        let id = closure::id(&tenant, "bol").await;
        assert!(!escrowed_files(&tenant).is_empty());
        tenant.kubectl(&["delete", "mconn", "bol"]).expect("deleted");
        wait_for("the keys are withdrawn from the store", SOON, async || {
            let status = closure::record(&id)?["status"].clone();
            let at = &status["stores"][0]["escrowWithdrawnAt"];
            if at.is_string() { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!(escrowed_files(&tenant), Vec::<PathBuf>::new());
        wait_for("its backups are listed, and pruned again tomorrow", SOON, async || {
            let store = closure::record(&id)?["status"]["stores"][0].clone();
            let (left, next) = (store["backups"]["left"].as_i64(), &store["backups"]["nextAt"]);
            if left > Some(0) && next.is_string() { Ok(()) } else { Err(store.to_string()) }
        })
        .await;
        assert!(!files(&tenant, Site::OffSite).is_empty(), "its backups stay until their time");
    })
    .await;
}

/// What the off-site store has of keys, older versions included.
fn escrowed_files(tenant: &Tenant) -> Vec<PathBuf> {
    let is_escrow = |path: &PathBuf| path.iter().any(|part| part == "escrow");
    files(tenant, Site::OffSite).into_iter().filter(is_escrow).collect()
}

#[tokio::test]
async fn before_it_what_opens_the_backups_is_escrowed_and_so_is_who_was_erased_after_the_last_one() {
    let tenant = Tenant::named(NAME).await;
    configure(&tenant);
    tenant.move_in().await;
    tenant.seller("bol", 3).await;
    let mut connection = connection(&tenant);
    tenant.apply(&connection);
    tenant.all_arrived("bol").await;
    tenant.condition("bol", "Escrowed", "True", Some("Escrowed")).await;
    erasure::order_of_zoe(&tenant, "bol", 2).await;
    tenant.all_arrived("bol").await;
    restores::newer_backup(&tenant, Site::OffSite).await;
    connection["spec"]["backup"]["suspend"] = json!(true);
    tenant.apply(&connection);
    tenant.condition("bol", "BackedUpOffSite", "False", Some("BackupsSuspended")).await;
    restores::jobs_have_ended(&tenant).await;
    let since = Timestamp::now();
    erasure::ask(&tenant);
    assert_eq!(erasure::reason(&tenant, "Erased").await.erased, Some(2));
    escrowed(&tenant, since).await;
    fs::write(kept("facts.json"), facts(&tenant).await).expect("written");
}

#[tokio::test]
async fn keys_come_back_from_the_off_site_store_with_the_identity_before_there_is_an_operator() {
    let tenant = Tenant::named(NAME).await;
    tenant.furnish();
    tenant.credentials("bol", "secret");
    store(&tenant, Site::OffSite, None);
    let [identity, to] = ["identity", "recovered"].map(|name| kept(name).display().to_string());
    let recover = ["recover", "--prefix", NAME, "--identity", &identity];
    let checked = program(Site::OffSite, &[&recover[..], &["--check"]].concat());
    let checked = checked.expect("a drill with escrowed keys");
    assert!(checked.contains("bol"), "{checked}");
    let recovered = program(Site::OffSite, &[&recover[..], &["--to", &to]].concat()).expect("recovered");
    assert!(recovered.contains("lost") && !recovered.contains("AGE-SECRET"), "{recovered}");
    kube().get(&["create", "--filename", &format!("{to}/keys")]).expect("keys");
}

#[tokio::test]
async fn after_it_the_connection_is_restored_and_who_was_erased_stays_so() {
    let tenant = Tenant::named(NAME).await;
    let since = Timestamp::now();
    tenant.has_a_system().await;
    tenant.seller("bol", 3).await;
    let erasures = kept("recovered").join("erasures").display().to_string();
    kube().get(&["create", "--filename", &erasures]).expect("erasures");
    tenant.apply(&connection(&tenant));
    let restore = restores::restored(&tenant, since).await;
    assert_eq!((restore.cause, restore.failures), (RestoreCause::VolumeEmpty, 0), "{restore:?}");
    let backup = restore.restored.expect("a backup");
    assert_eq!((backup.site, backup.erased), (Site::OffSite, 2), "{backup:?}");
    assert!(backup.orders >= 3, "{backup:?}");
    tenant.ready("bol").await;
    assert_eq!(facts(&tenant).await, fs::read_to_string(kept("facts.json")).expect("facts"));
    tenant.condition("bol", "AuditIntact", "True", None).await;

    let known = tenant.sandbox.orders(&tenant.account("bol")).await;
    tenant.order("bol", 1).await;
    let new: Vec<_> = tenant.sandbox.orders(&tenant.account("bol")).await;
    let new: Vec<_> = new.into_iter().filter(|number| !known.contains(number)).collect();
    assert_eq!(new.len(), 1);
    wait_for("a new order arrives", SOON, async || {
        let arrived = tenant.sandbox.arrived(NAME).await;
        if arrived.contains_key(&new[0]) { Ok(()) } else { Err(format!("{} have arrived", arrived.len())) }
    })
    .await;
    restores::newer_backup(&tenant, Site::OffSite).await;
    tenant.move_out().await;
    fs::remove_dir_all(kept("")).expect("removed");
}
