//! From what is wanted to objects. Pure: the same input gives the same objects.

pub mod backup;
mod config_map;
pub mod network_policy;
pub mod pod;
pub mod restore;
mod service;
mod service_account;
mod stateful_set;
mod tls_secret;
mod volume_claim;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Resource,
    api::{ObjectMeta, PartialObjectMeta},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{
    Duration, MarketplaceConnection, OperatorConfig, backup::PastErasures, connection::Backups, labels,
};

pub use config_map::KNOWN_DATABASE;

use super::{
    backup::{Wanted, archives},
    in_force::Terms,
    validate::Validated,
};
use crate::{
    names::Names,
    pki::{Authority, PkiError, Subject},
    stores::Stores,
};

/// The children that exist.
pub struct Children {
    /// The relay's identity.
    pub service_account: Option<Arc<ServiceAccount>>,
    pub config_map: Option<Arc<ConfigMap>>,
    pub tls: Option<Arc<PartialObjectMeta<Secret>>>,
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    pub service: Option<Arc<Service>>,
    pub network_policy: Option<Arc<NetworkPolicy>>,
    pub stateful_set: Option<Arc<StatefulSet>>,
    pub pod: Option<Arc<Pod>>,
    /// What takes its backups.
    pub backup: backup::Existing,
}

impl Children {
    /// Those of a connection, as the stores know them.
    pub fn load(stores: &Stores, namespace: &str, names: Names<'_>) -> Self {
        let relay = names.relay();
        Self {
            service_account: stores.service_accounts.get(&ObjectRef::new(&relay).within(namespace)),
            config_map: stores.config_maps.get(&ObjectRef::new(&relay).within(namespace)),
            tls: stores.secrets.get(&ObjectRef::new(&names.tls()).within(namespace)),
            claim: stores.claims.get(&ObjectRef::new(&names.volume()).within(namespace)),
            service: stores.services.get(&ObjectRef::new(&relay).within(namespace)),
            network_policy: stores.network_policies.get(&ObjectRef::new(&relay).within(namespace)),
            stateful_set: stores.stateful_sets.get(&ObjectRef::new(&relay).within(namespace)),
            pod: stores.pods.get(&ObjectRef::new(&names.pod()).within(namespace)),
            backup: backup::Existing::load(stores, namespace, names),
        }
    }

    /// Whether the relay's StatefulSet has no pod and wants none.
    pub fn is_at_rest(&self) -> bool {
        let wants_none = |set: &StatefulSet| {
            let is_seen =
                set.status.as_ref().and_then(|status| status.observed_generation) == set.metadata.generation;
            is_seen && set.spec.as_ref().is_some_and(|spec| spec.replicas == Some(0))
        };
        self.pod.is_none() && self.stateful_set.as_deref().is_some_and(wants_none)
    }

    /// Whether the relay's pod runs.
    pub fn is_running(&self) -> bool {
        self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some("Running")
    }
}

/// The children that are wanted.
pub struct Prepared {
    pub service_account: ServiceAccount,
    pub config_map: ConfigMap,
    /// Absent: the certificate that exists is good.
    pub tls: Option<Secret>,
    pub claim: PersistentVolumeClaim,
    pub service: Service,
    pub network_policy: NetworkPolicy,
    pub stateful_set: StatefulSet,
    /// Hex SHA-256 of the relay's configuration file.
    pub config_digest: String,
}

/// What the objects are made from.
pub struct Plan<'a> {
    /// What is wanted.
    pub validated: &'a Validated,
    /// The connection's id.
    pub id: &'a str,
    /// Of the operator's configuration: [`crate::rollout::revision`].
    pub revision: &'a str,
    /// Since when a relay that was ready before has this revision.
    pub updating_since: Option<Timestamp>,
    /// In force.
    pub terms: &'a Terms,
    /// `None`: no backups are wanted.
    pub backups: Option<&'a Wanted>,
    /// What the status says of them.
    pub told: Option<&'a Backups>,
    /// The holds whose keys there are.
    pub holds: &'a archives::Holds,
    /// Whose signature counts, hex; `None`: the relay hasn't told yet.
    pub public_key: Option<&'a str>,
    /// What was erased from the connection by the requests that there are.
    pub erasures: &'a PastErasures,
    /// The audit log of the database that the relay must find; `None`: it begins one if there is none.
    pub known_chain: Option<&'a str>,
    /// The relay is to leave its volume alone.
    pub at_rest: bool,
    /// The operator's configuration.
    pub config: &'a OperatorConfig,
    /// The operator's namespace.
    pub operator_namespace: &'a str,
}

/// Builds all of them.
pub fn prepare(
    plan: &Plan<'_>,
    existing: &Children,
    authority: &Authority,
    now: Timestamp,
) -> Result<Prepared, PkiError> {
    let file = config_map::file(plan);
    let config_digest = crate::compare::hash(file.as_bytes());
    let host = plan.names().host(&plan.validated.namespace);
    let server = Subject::Server(&host);
    let tls = plan.owned(plan.names().tls(), labels::RELAY);
    Ok(Prepared {
        service_account: service_account::build(plan),
        config_map: config_map::build(plan, file),
        tls: tls_secret::build(tls, &server, existing.tls.as_deref(), authority, now)?,
        claim: volume_claim::build(plan),
        service: service::build(plan),
        network_policy: network_policy::build(plan),
        stateful_set: stateful_set::build(plan, &config_digest),
        config_digest,
    })
}

impl<'a> Plan<'a> {
    fn names(&self) -> Names<'a> {
        Names(&self.validated.name)
    }

    /// Of a connection that has backups.
    fn backup_retention(&self) -> &Duration {
        self.terms.backup_retention.as_ref().unwrap_or(&self.terms.delete_after_shipment)
    }

    /// What selects the pods of a part of the connection.
    fn selector(&self, component: &str) -> BTreeMap<String, String> {
        strings(&[
            (labels::NAME, labels::APP),
            (labels::INSTANCE, &self.validated.name),
            (labels::COMPONENT, component),
        ])
    }

    fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let name = self.validated.name.as_str();
        strings(&[
            (labels::NAME, labels::APP),
            (labels::INSTANCE, name),
            (labels::MANAGED_BY, labels::OPERATOR),
            (labels::COMPONENT, component),
            (labels::CONNECTION, name),
        ])
    }

    /// Of a child that goes with the connection.
    fn owned(&self, name: String, component: &str) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: MarketplaceConnection::api_version(&()).into_owned(),
            kind: MarketplaceConnection::kind(&()).into_owned(),
            name: self.validated.name.clone(),
            uid: self.validated.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta { owner_references: Some(vec![owner]), ..self.unowned(name, component) }
    }

    /// Of a child that outlives the connection.
    fn unowned(&self, name: String, component: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.validated.namespace.clone()),
            labels: Some(self.labels(component)),
            ..ObjectMeta::default()
        }
    }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use marketrelay_api::{
        Reason, RetentionPolicySpec,
        connection::MarketplaceKind,
        relay::{BatchLimits, BolSettings, MarketplaceSettings, WebhookConfig},
    };
    use marketrelay_keyring::{DestroyAt, HoldId, HoldKey};
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::{controllers::connection::backup::sample, problem::Problem};

    fn validated() -> Validated {
        Validated {
            namespace: "acme".into(),
            name: "bol".into(),
            uid: "8b1d".into(),
            kind: MarketplaceKind::Bol,
            marketplace: MarketplaceSettings::Bol(BolSettings {}),
            endpoints: None,
            credentials: "bol-credentials".into(),
            signing: "erp-signing".into(),
            webhook: WebhookConfig {
                url: "https://erp.acme.example:8443/orders".parse().expect("a URL"),
                batch: BatchLimits { max_events: 100, max_bytes: 1 << 20 },
            },
            audit_retention_seconds: 400 * 86_400,
            holds: Vec::new(),
            poll_interval_seconds: 60,
            lookback_seconds: 7 * 86_400,
            suspend: false,
            size: "1Gi".into(),
            class: "encrypted".into(),
        }
    }

    fn nothing() -> Children {
        Children {
            service_account: None,
            config_map: None,
            tls: None,
            claim: None,
            service: None,
            network_policy: None,
            stateful_set: None,
            pod: None,
            backup: backup::Existing::default(),
        }
    }

    const CONFIG: &str = "{relay: {image: 'registry.example/relay:1', imagePullSecrets: []}, egress: {allowedNetworks: [10.20.0.0/16]}, \
                          backup: {image: 'registry.example/backup:1', escrow: {recipients: \
                          [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]}}}";

    fn with_plan<T>(backups: Option<&Wanted>, make: impl FnOnce(&Plan<'_>) -> T) -> T {
        let config = OperatorConfig::parse(CONFIG).expect("a configuration");
        let validated = validated();
        let id = "3f6c0000-1111-4222-8333-444455556666";
        let hold = HoldKey::new("tax-2026", DestroyAt::from_second(1_900_000_000)).expect("a name");
        let holds = archives::Holds::from([(hold, HoldId::from([7; 32]))]);
        let terms = Terms::of(&RetentionPolicySpec::default(), MarketplaceKind::Bol, backups.is_some());
        let plan = Plan {
            validated: &validated,
            id,
            revision: "5f0c",
            updating_since: None,
            terms: &terms,
            backups,
            told: None,
            holds: &holds,
            public_key: backups.map(|_| "00ff"),
            erasures: &PastErasures::default(),
            known_chain: backups.map(|_| "5c1f0000-1111-4222-8333-444455556666"),
            at_rest: false,
            config: &config,
            operator_namespace: "marketrelay-system",
        };
        make(&plan)
    }

    fn prepared(existing: &Children, authority: &Authority, now: Timestamp) -> Prepared {
        with_plan(None, |plan| prepare(plan, existing, authority, now).expect("children"))
    }

    #[test]
    fn a_connections_children_are_as_reviewed() {
        let (authority, _) = Authority::generate(Timestamp::now()).expect("an authority");
        let Prepared {
            service_account,
            config_map,
            tls: _,
            claim,
            service,
            network_policy,
            stateful_set,
            config_digest: _,
        } = prepared(&nothing(), &authority, Timestamp::now());
        insta::assert_yaml_snapshot!("service_account", service_account);
        insta::assert_yaml_snapshot!("config_map", config_map);
        insta::assert_yaml_snapshot!("volume_claim", claim);
        insta::assert_yaml_snapshot!("service", service);
        insta::assert_yaml_snapshot!("network_policy", network_policy);
        insta::assert_yaml_snapshot!("stateful_set", stateful_set);
    }

    #[test]
    fn a_certificate_is_kept_until_it_is_old_or_of_another_authority() {
        let now = Timestamp::now();
        let (authority, _) = Authority::generate(now).expect("an authority");
        let first = prepared(&nothing(), &authority, now).tls.expect("a certificate");
        let data = first.data.expect("entries");
        rustls_pki_types::CertificateDer::from_pem_slice(&data["tls.crt"].0).expect("PEM");
        let existing = |metadata| {
            let tls = PartialObjectMeta { metadata, ..PartialObjectMeta::default() };
            Children { tls: Some(Arc::new(tls)), ..nothing() }
        };
        let existing = existing(first.metadata);
        assert!(prepared(&existing, &authority, now).tls.is_none());
        let later = now + jiff::SignedDuration::from_hours(24 * 21);
        assert!(prepared(&existing, &authority, later).tls.is_some());
        let (other, _) = Authority::generate(now).expect("an authority");
        assert!(prepared(&existing, &other, now).tls.is_some());
    }

    fn value(child: &backup::Child<impl serde::Serialize>) -> serde_json::Value {
        match child {
            backup::Child::Wanted(object) => serde_json::to_value(object).expect("JSON"),
            backup::Child::Kept => "kept".into(),
            backup::Child::Unwanted => "unwanted".into(),
        }
    }

    #[test]
    fn what_takes_backups_is_as_reviewed() {
        let now = Timestamp::now();
        let (authority, _) = Authority::generate(now).expect("an authority");
        let wanted = sample();
        let (relay, backup) = with_plan(Some(&wanted), |plan| {
            let relay = prepare(plan, &nothing(), &authority, now).expect("children");
            (relay, backup::prepare(plan, &backup::Existing::default(), &authority, now).expect("children"))
        });
        insta::assert_yaml_snapshot!("network_policy_with_backups", relay.network_policy);
        let backup::Prepared { service_account, config_map, tls, network_policy, cron_jobs } = backup;
        insta::assert_yaml_snapshot!("backup_service_account", value(&service_account));
        insta::assert_yaml_snapshot!("backup_config_map", value(&config_map));
        insta::assert_yaml_snapshot!("backup_network_policy", value(&network_policy));
        for ((site, task), cron_job) in &cron_jobs {
            insta::assert_yaml_snapshot!(format!("backup_cron_job_{site}_{task}"), value(cron_job));
        }
        let backup::Child::Wanted(tls) = tls else { panic!("a certificate") };
        let der = rustls_pki_types::CertificateDer::from_pem_slice(&tls.data.expect("entries")["tls.crt"].0);
        assert_eq!(marketrelay_mtls::Role::of(Some(&[der.expect("PEM")])), marketrelay_mtls::Role::Backup);
    }

    #[test]
    fn what_restores_a_backup_is_as_reviewed() {
        let wanted = sample();
        let (job, config_map) = with_plan(Some(&wanted), |plan| {
            let settings = plan.config.backup.as_ref().expect("backups");
            let attempt = restore::Attempt {
                name: "bol-restore-1800000000",
                choice: marketrelay_api::backup::Choice::Newest,
                replace: false,
                public_key: "00ff",
                chain: plan.known_chain,
            };
            let job = restore::job(plan, settings, &wanted, &attempt);
            let made = restore::config_map(plan, &wanted, attempt, &job);
            (job, made)
        });
        insta::assert_yaml_snapshot!("restore_job", job);
        insta::assert_yaml_snapshot!("restore_config_map", config_map);
    }

    #[test]
    fn what_cant_be_carried_out_stays_as_it_is_and_what_isnt_asked_for_goes() {
        let now = Timestamp::now();
        let (authority, _) = Authority::generate(now).expect("an authority");
        let prepared = |wanted: Option<&Wanted>, existing: &backup::Existing| {
            with_plan(wanted, |plan| backup::prepare(plan, existing, &authority, now).expect("children"))
        };
        let blocked = sample().blocked(&Problem::new(Reason::SecretNotFound, "no Secret"));
        let kept = prepared(Some(&blocked), &backup::Existing::default());
        assert!(kept.cron_jobs.iter().all(|(_, child)| value(child) == "kept"));
        assert_eq!([value(&kept.config_map), value(&kept.tls), value(&kept.network_policy)], ["kept"; 3]);
        let none = prepared(None, &backup::Existing::default());
        assert!(none.cron_jobs.iter().all(|(_, child)| value(child) == "unwanted"));
        assert_eq!(
            [value(&none.config_map), value(&none.tls), value(&none.service_account)],
            ["unwanted"; 3]
        );
    }
}
