//! From what was read to what is wanted, or every reason why not at once.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};
use kube::ResourceExt;
use marketrelay_api::{
    MarketplaceConnection, OperatorConfig, Reason, RetentionPolicy, RetentionPolicySpec,
    connection::{Amazon, MarketplaceKind},
    labels,
    quantity::quantity,
    relay::{
        AmazonSettings, BatchLimits, BolSettings, EbaySettings, HeldSelection, MarketplaceEndpoints,
        MarketplaceSettings, WebhookConfig,
    },
};

use super::{
    backup::{self, Wanted},
    in_force::Terms,
    load::{Class, Loaded},
};
use crate::{
    controllers::holds::{Asked, selections},
    encryption,
    problem::Problem,
    stores::Stores,
};

/// A connection that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, for owner references.
    pub uid: String,
    /// Which marketplace.
    pub kind: MarketplaceKind,
    /// With its settings.
    pub marketplace: MarketplaceSettings,
    /// Instead of the official endpoints.
    pub endpoints: Option<MarketplaceEndpoints>,
    /// Name of the Secret.
    pub credentials: String,
    /// Name of the Secret.
    pub signing: String,
    /// Where orders go.
    pub webhook: WebhookConfig,
    /// How long audit records are kept, in seconds.
    pub audit_retention_seconds: i64,
    /// What holds select.
    pub holds: Vec<HeldSelection>,
    /// Seconds.
    pub poll_interval_seconds: u64,
    /// Seconds.
    pub lookback_seconds: u64,
    /// Nothing is collected or delivered.
    pub suspend: bool,
    /// The volume's size.
    pub size: String,
    /// The volume's class.
    pub class: String,
}

/// What validation found.
pub struct Validation {
    /// What is wanted, or what stands in the way.
    pub result: Result<Validated, Vec<Problem>>,
    /// Whether the volume is encrypted, and why.
    pub encrypted: Result<String, Problem>,
    /// The retention that is wanted; `None` if the connection can't be built.
    pub wanted: Option<Terms>,
    /// What the policy asks of holds.
    pub asked: Asked,
    /// What is wanted of backups, whatever stands in the relay's way; `None`: none are.
    pub backups: Option<Wanted>,
}

/// Pure.
pub fn validate(loaded: &Loaded, config: &OperatorConfig) -> Validation {
    let connection = &loaded.connection;
    let mut problems = Vec::new();
    let policy = policy(connection, loaded.policy.as_deref(), config, &mut problems);
    let marketplace = marketplace(connection, &mut problems);
    secrets(loaded, &mut problems);
    let encrypted = encrypted(&loaded.class);
    problems.extend(encrypted.as_ref().err().cloned());
    let class = match &loaded.class {
        Class::Found(class) => volume(connection, class, loaded.children.claim.as_ref(), &mut problems),
        _ => String::new(),
    };
    let webhook = webhook(connection, &mut problems);
    let kind = marketplace.as_ref().map_or(MarketplaceKind::Bol, |(kind, _)| *kind);
    let wanted = Terms::of(&policy, kind, connection.spec.backup.is_some());
    let backups = connection.spec.backup.as_ref().map(|backup| {
        let retention = policy.effective_backup_retention();
        backup::wanted(backup, connection.spec.suspend, &loaded.stores, &retention, config)
    });
    let result = match (marketplace, webhook) {
        (Some((kind, marketplace)), Some(webhook)) if problems.is_empty() => Ok(Validated {
            namespace: connection.namespace().unwrap_or_default(),
            name: connection.name_any(),
            uid: connection.uid().unwrap_or_default(),
            kind,
            marketplace,
            endpoints: config.endpoints.of(kind).cloned(),
            credentials: connection.spec.credentials_secret_ref.name.clone(),
            signing: connection.spec.destination.webhook.signing_secret_ref.name.clone(),
            webhook,
            audit_retention_seconds: policy.audit_retention.as_secs(),
            holds: selections(&policy),
            poll_interval_seconds: connection.spec.poll_interval.as_secs().unsigned_abs(),
            lookback_seconds: connection.spec.lookback.as_secs().unsigned_abs(),
            suspend: connection.spec.suspend,
            size: size(connection, loaded.children.claim.as_ref()),
            class,
        }),
        _ => Err(problems),
    };
    let asked = Asked::by(&policy);
    Validation { wanted: result.is_ok().then_some(wanted), result, encrypted, asked, backups }
}

/// What a connection's policy asks of holds; nothing if it can't be used: what is held stays so.
pub fn asked(connection: &MarketplaceConnection, stores: &Stores, config: &OperatorConfig) -> Asked {
    let mut problems = Vec::new();
    let policy = policy(connection, stores.policy(connection).as_deref(), config, &mut problems);
    if problems.is_empty() { Asked::by(&policy) } else { Asked::default() }
}

fn policy(
    connection: &MarketplaceConnection,
    policy: Option<&RetentionPolicy>,
    config: &OperatorConfig,
    problems: &mut Vec<Problem>,
) -> RetentionPolicySpec {
    let Some(reference) = &connection.spec.retention_policy_ref else {
        return RetentionPolicySpec::default();
    };
    let Some(policy) = policy else {
        problems.push(Problem::new(
            Reason::PolicyNotFound,
            format!(
                "spec.retentionPolicyRef: there is no RetentionPolicy {} in this namespace: create it, or remove the \
                 reference to take the defaults",
                reference.name
            ),
        ));
        return RetentionPolicySpec::default();
    };
    if let Some(problem) = short_durations(&policy.spec, config) {
        problems.push(Problem::new(
            Reason::PolicyNotReady,
            format!("spec.retentionPolicyRef: RetentionPolicy {}: {}", reference.name, problem.message),
        ));
    }
    policy.spec.clone()
}

/// Durations below a day erase data within hours by a typo, so the operator must allow them.
pub fn short_durations(policy: &RetentionPolicySpec, config: &OperatorConfig) -> Option<Problem> {
    let short = policy.short_durations();
    if config.allow_short_durations || short.is_empty() {
        return None;
    }
    let fields: Vec<_> = short.iter().map(|(field, value)| format!("{field}: {value}")).collect();
    let message = format!(
        "{} is below 1d, and would destroy personal data within hours: write 1d or more (allowShortDurations in the \
         operator's values is for tests)",
        fields.join(", ")
    );
    Some(Problem::new(Reason::ShortDurationsNotAllowed, message))
}

fn marketplace(
    connection: &MarketplaceConnection,
    problems: &mut Vec<Problem>,
) -> Option<(MarketplaceKind, MarketplaceSettings)> {
    let Some(kind) = connection.spec.marketplace() else {
        problems.push(Problem::new(
            Reason::InvalidSpec,
            "spec names no marketplace or several: name exactly one of amazon, ebay and bol",
        ));
        return None;
    };
    let settings = match &connection.spec.amazon {
        Some(Amazon { region, marketplace_ids }) => MarketplaceSettings::Amazon(AmazonSettings {
            region: region.as_str().to_owned(),
            marketplace_ids: marketplace_ids.clone(),
        }),
        None if kind == MarketplaceKind::Ebay => MarketplaceSettings::Ebay(EbaySettings {}),
        None => MarketplaceSettings::Bol(BolSettings {}),
    };
    Some((kind, settings))
}

fn secrets(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let spec = &loaded.connection.spec;
    let entries = spec.marketplace().map_or(&[][..], MarketplaceKind::credential_entries).join(", ");
    let signing = "signingSecret".to_owned();
    let secrets = [
        ("spec.credentialsSecretRef", &spec.credentials_secret_ref.name, &loaded.credentials, entries),
        (
            "spec.destination.webhook.signingSecretRef",
            &spec.destination.webhook.signing_secret_ref.name,
            &loaded.signing,
            signing,
        ),
    ];
    for (field, name, found, entries) in secrets {
        match found {
            Some(judgement) => problems.extend(judgement.as_ref().err().cloned()),
            None => problems.push(Problem::new(
                Reason::SecretNotFound,
                format!("{field}: there is no Secret {name} in this namespace: create it with the entries {entries}"),
            )),
        }
    }
}

fn encrypted(class: &Class) -> Result<String, Problem> {
    match class {
        Class::None => Err(Problem::new(
            Reason::StorageClassMissing,
            "no StorageClass: set spec.storage.storageClassName to a class whose volumes are encrypted (the operator \
             and the cluster have no default)",
        )),
        Class::Missing(name) => Err(Problem::new(
            Reason::StorageClassNotFound,
            format!(
                "spec.storage.storageClassName: there is no StorageClass {name}: choose another (kubectl get \
                 storageclass) or create it"
            ),
        )),
        Class::Found(class) => {
            encryption::check(class).map_err(|message| Problem::new(Reason::StorageNotEncrypted, message))
        }
    }
}

/// The class of the volume; a claim that exists can only grow.
fn volume(
    connection: &MarketplaceConnection,
    class: &StorageClass,
    claim: Option<&Arc<PersistentVolumeClaim>>,
    problems: &mut Vec<Problem>,
) -> String {
    let name = class.name_any();
    let Some(claim) = claim else { return name };
    let existing = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
    if existing != name {
        problems.push(Problem::new(
            Reason::VolumeNotChangeable,
            format!(
                "spec.storage.storageClassName is {name}, but volume claim {} is in class {existing} and holds this \
                 connection's data: set it to {existing}, or make a new connection",
                claim.name_any()
            ),
        ));
    }
    let kind = connection.spec.marketplace().map(|kind| kind.to_string());
    if let (Some(held), Some(kind)) = (claim.labels().get(labels::MARKETPLACE), kind)
        && *held != kind
    {
        problems.push(Problem::new(
            Reason::VolumeNotChangeable,
            format!(
                "volume claim {} holds the orders of an earlier {held} connection of this name: give this {kind} \
                 connection another name, or delete the claim and its key Secrets",
                claim.name_any()
            ),
        ));
    }
    let wanted = &connection.spec.storage.size;
    let grows = requested(claim).is_some_and(|live| quantity(&live) < quantity(wanted));
    if grows && class.allow_volume_expansion != Some(true) {
        problems.push(Problem::new(
            Reason::VolumeNotChangeable,
            format!(
                "spec.storage.size is {wanted}, but volume claim {} has {} and StorageClass {existing} doesn't allow \
                 expansion: let the cluster's administrator set allowVolumeExpansion: true on the class, or delete the connection \
                 and apply it again with the volume's size (its data and keys are kept)",
                claim.name_any(),
                requested(claim).unwrap_or_default()
            ),
        ));
    }
    existing
}

fn requested(claim: &PersistentVolumeClaim) -> Option<String> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    Some(resources.requests.as_ref()?.get("storage")?.0.clone())
}

/// An adopted volume may be larger than what is asked for; it stays so.
fn size(connection: &MarketplaceConnection, claim: Option<&Arc<PersistentVolumeClaim>>) -> String {
    let wanted = connection.spec.storage.size.clone();
    let live = claim.and_then(|claim| requested(claim));
    live.filter(|live| quantity(live) > quantity(&wanted)).unwrap_or(wanted)
}

fn webhook(connection: &MarketplaceConnection, problems: &mut Vec<Problem>) -> Option<WebhookConfig> {
    let webhook = &connection.spec.destination.webhook;
    let batch = BatchLimits {
        max_events: webhook.batch.max_events.unsigned_abs(),
        max_bytes: webhook.batch.max_bytes.unsigned_abs(),
    };
    match webhook.url.parse() {
        Ok(url) => Some(WebhookConfig { url, batch }),
        Err(error) => {
            problems.push(Problem::new(
                Reason::InvalidSpec,
                format!(
                    "spec.destination.webhook.url can't be used ({error}): write an address such as \
                     https://erp.acme.example/orders"
                ),
            ));
            None
        }
    }
}

/// Whether an object carries our label of the connection's id, and it is another's.
pub fn belongs_to_other(object: &impl ResourceExt, id: &str) -> bool {
    object.labels().get(labels::CONNECTION_ID).is_some_and(|other| other != id)
}
