//! Backups: written at both sites, read outside the cluster, proven by listing, and gone on time.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use age::{Decryptor, x25519::Identity};
use k8s_openapi::api::core::v1::Secret;
use marketrelay_api::{backup::Site, connection::SiteBackups};
use serde_json::{Value, json};
use xtask::{paths, run::run, stage::BUCKET};

use crate::{
    cluster::{folder, s3, together, wait_for},
    tenant::{Tenant, with_tenant},
};

/// A schedule's minute, a Job's turn, a pod's start, on a busy machine.
const RUN: Duration = Duration::from_mins(4);
/// backupRetention, a keyEpoch, the next run.
const GONE: Duration = Duration::from_mins(8);

/// The store of a site, in the connection's YAML, with a Secret of the customer's.
pub fn store(tenant: &Tenant, site: Site, secret_key: Option<&str>) -> Value {
    let s3 = s3(site);
    s3.make_bucket(BUCKET).expect("a bucket");
    let secret = format!("{site}-s3");
    let key = secret_key.unwrap_or(&s3.secret_key);
    tenant.secret(&secret, &json!({"accessKeyId": s3.access_key, "secretAccessKey": key}));
    json!({"s3": {"credentialsSecretRef": {"name": secret}, "endpoint": s3.endpoint, "bucket": BUCKET,
        "region": s3.region, "prefix": tenant.name}})
}

/// With backups every minute that are kept for three.
pub fn connection(tenant: &Tenant, sites: &[Site]) -> Value {
    tenant.apply(&json!({
        "apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy", "metadata": {"name": "minutes"},
        "spec": {"anonymizeAfter": "60m", "amazon": {"anonymizeAfter": "60m"}, "deleteAfterShipment": "30m",
                 "backupRetention": "3m", "keyEpoch": "1m"},
    }));
    let mut connection = tenant.connection("bol");
    connection["spec"]["retentionPolicyRef"] = json!({"name": "minutes"});
    connection["spec"]["backup"] = json!({"schedule": "* * * * *"});
    for site in sites {
        let field = if *site == Site::OnSite { "onSite" } else { "offSite" };
        connection["spec"]["backup"][field] = store(tenant, *site, None);
    }
    connection
}

/// What the status says of a site.
pub async fn told(tenant: &Tenant, site: Site) -> Result<SiteBackups, String> {
    let status = tenant.get("bol").await?.status.unwrap_or_default();
    status.backups.and_then(|backups| backups.site(site).cloned()).ok_or_else(|| "nothing is told".to_owned())
}

/// Waits for backups in a store.
pub async fn backed_up(tenant: &Tenant, site: Site) -> SiteBackups {
    wait_for(&format!("{}: a backup {site}", tenant.name), RUN, async || {
        let told = told(tenant, site).await?;
        if told.count > 0 && told.last_success.is_some() { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await
}

/// Everything in the customer's part of a store, older versions included.
pub fn files(tenant: &Tenant, site: Site) -> Vec<PathBuf> {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let (mut found, servers) = (Vec::new(), folder().join("s3"));
    for root in [site.to_string(), format!("{site}.versions")] {
        below(&servers.join(root).join(BUCKET).join(&tenant.name), &mut found);
    }
    found
}

/// The ids of the backups that any file belongs to; archives of holds are none.
pub fn ids(tenant: &Tenant, site: Site) -> Vec<String> {
    let is_id = |part: &&str| part.len() == 25 && part.as_bytes()[8] == b'T' && part.as_bytes()[15] == b'Z';
    let mut ids: Vec<_> = files(tenant, site)
        .iter()
        .filter(|path| path.iter().all(|part| part != "holds"))
        .filter_map(|path| path.iter().filter_map(|part| part.to_str()).find(is_id).map(str::to_owned))
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The command line of backups at the store of a site, as somebody outside the cluster runs it.
pub fn program(site: Site, words: &[&str]) -> Result<String, String> {
    let s3 = s3(site);
    let program = paths::target().join("x86_64-unknown-linux-gnu/debug/marketrelay-backup");
    let (key, secret) =
        (format!("AWS_ACCESS_KEY_ID={}", s3.access_key), format!("AWS_SECRET_ACCESS_KEY={}", s3.secret_key));
    let (program, authority) = (program.display().to_string(), s3.authority.display().to_string());
    let store = ["--endpoint", &s3.endpoint, "--region", s3.region, "--bucket", BUCKET];
    let trusted = ["--path-style", "--ca", &authority];
    let all = [&["env", &key, &secret, &program, words[0]], &store[..], &trusted, &words[1..]].concat();
    run(&all).map_err(|error| error.to_string())
}

/// The same, for the backups of the connection.
async fn outside(tenant: &Tenant, site: Site, words: &[&str]) -> Result<String, String> {
    let status = tenant.get("bol").await?.status.unwrap_or_default();
    let id = status.connection_id.ok_or("no id")?;
    let prefix = format!("{}/{id}", tenant.name);
    program(site, &[&[words[0], "--prefix", &prefix], &words[1..]].concat())
}

/// The identity that opens a backup, in a file.
async fn identity(tenant: &Tenant, name: &str, file: &Path) -> Result<(), String> {
    let secret =
        tenant.api::<Secret>().get("bol-backup-identities").await.map_err(|error| error.to_string())?;
    let data = secret.data.unwrap_or_default();
    let entry =
        data.get(name).ok_or_else(|| format!("no {name} among {:?}", data.keys().collect::<Vec<_>>()))?;
    fs::write(file, &entry.0).map_err(|error| error.to_string())
}

#[tokio::test]
async fn backups_are_written_at_both_sites_readable_outside_and_gone_on_time() {
    let _together = together().await;
    with_tenant("backups", |tenant| async move {
        tenant.seller("bol", 3).await;
        tenant.apply(&connection(&tenant, &Site::ALL));
        tenant.all_arrived("bol").await;
        for site in Site::ALL {
            let told = backed_up(&tenant, site).await;
            assert_eq!((told.overdue, told.foreign, told.damaged), (0, 0, 0), "{told:?}");
        }
        for kind in ["BackedUpOnSite", "BackedUpOffSite", "Ready"] {
            tenant.condition("bol", kind, "True", None).await;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("identity");
        let (first, name) = wait_for("a backup is verified outside the cluster", RUN, async || {
            verified(&tenant, Site::OnSite, &file).await
        })
        .await;
        nothing_is_readable(&tenant).await;
        let kept = kept(&tenant, &first, &file);
        wait_for("the first backup is gone", GONE, async || {
            let left: Vec<_> = Site::ALL
                .into_iter()
                .flat_map(|site| files(&tenant, site))
                .filter(|path| path.to_string_lossy().contains(&first))
                .collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        wait_for("the first backup's identity is destroyed", GONE, async || {
            match identity(&tenant, &name, &file).await {
                Err(error) if error.contains(&name) => Ok(()),
                found => Err(format!("{found:?}")),
            }
        })
        .await;
        opens_with_nothing(&tenant, &kept).await;
        let told = backed_up(&tenant, Site::OnSite).await;
        assert_eq!(told.overdue, 0, "{told:?}");
    })
    .await;
}

/// Has the newest backup of a site verified with its identity; gives both names. The next run may prune it meanwhile.
async fn verified(tenant: &Tenant, site: Site, file: &Path) -> Result<(String, String), String> {
    let newest = ids(tenant, site).pop().ok_or("no backup")?;
    let shown = outside(tenant, site, &["show", &newest]).await?;
    let name =
        shown.split_whitespace().find(|word| word.starts_with("backup.")).ok_or_else(|| shown.clone())?;
    identity(tenant, name, file).await?;
    let audit = tenant.get("bol").await?.status.and_then(|status| status.audit).ok_or("no head")?;
    let path = file.display().to_string();
    let words = ["verify", "--public-key", &audit.public_key, "--identity", &path, &newest];
    let said = outside(tenant, site, &words).await?;
    if said.contains(&newest) { Ok((newest, name.to_owned())) } else { Err(said) }
}

fn opens(data: &[u8], identity: &str) -> bool {
    let identity: Identity = identity.parse().expect("an identity");
    let identity: &dyn age::Identity = &identity;
    Decryptor::new(data).expect("a header").decrypt(std::iter::once(identity)).is_ok()
}

/// A copy of a backup's data that somebody keeps, while it can still be opened.
fn kept(tenant: &Tenant, backup: &str, identity: &Path) -> Vec<u8> {
    let is_data = |path: &PathBuf| path.ends_with(format!("{backup}/data"));
    let path = files(tenant, Site::OnSite).into_iter().find(is_data).expect("its data");
    let data = fs::read(path).expect("data");
    assert!(opens(&data, &fs::read_to_string(identity).expect("an identity")), "not even today");
    data
}

/// It opens with no identity that there is.
async fn opens_with_nothing(tenant: &Tenant, data: &[u8]) {
    let secret = tenant.api::<Secret>().get("bol-backup-identities").await.expect("identities");
    let entries = secret.data.unwrap_or_default();
    let identities: Vec<_> = entries.iter().filter(|(name, _)| name.starts_with("backup.")).collect();
    assert!(!identities.is_empty());
    for (name, text) in identities {
        assert!(!opens(data, std::str::from_utf8(&text.0).expect("text")), "{name}");
    }
}

/// What the sandbox's buyers are called is in no file of either store.
async fn nothing_is_readable(tenant: &Tenant) {
    let numbers = tenant.sandbox.orders(&tenant.account("bol")).await;
    assert!(!numbers.is_empty());
    for path in Site::ALL.into_iter().flat_map(|site| files(tenant, site)) {
        // One that was pruned meanwhile shows nothing.
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        for number in &numbers {
            assert!(!text.contains(number.as_str()), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_store_that_refuses_is_named_while_the_relay_works_and_the_next_run_is_clean() {
    let _together = together().await;
    with_tenant("refused", |tenant| async move {
        tenant.seller("bol", 2).await;
        let connection = connection(&tenant, &[Site::OnSite]);
        drop(store(&tenant, Site::OnSite, Some("wrong")));
        tenant.apply(&connection);
        tenant.all_arrived("bol").await;
        wait_for("the store's refusal is told", RUN, async || {
            let status = tenant.get("bol").await?.status.unwrap_or_default();
            let of = |kind: &str| {
                let found = status.conditions.iter().find(|condition| condition.type_ == kind);
                found.map(|found| (found.status.clone(), found.reason.clone()))
            };
            let refused = Some(("False".to_owned(), "StoreRefused".to_owned()));
            let seen = (of("BackedUpOnSite"), of("Ready"), of("Delivering"));
            let delivers = seen.2.as_ref().is_some_and(|(status, _)| status == "True");
            if seen.0 == refused && seen.1 == refused && delivers { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        drop(store(&tenant, Site::OnSite, None));
        backed_up(&tenant, Site::OnSite).await;
        tenant.condition("bol", "BackedUpOnSite", "True", None).await;
        tenant.ready("bol").await;
    })
    .await;
}
