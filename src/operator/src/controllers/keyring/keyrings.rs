//! Keyrings, and what matters beside them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use marketrelay_api::{MarketplaceConnection, backup::Site, relay::Retention};
use marketrelay_keyring::{BackupKey, KeyringError, Recipient};

use super::{
    Metadata, change,
    decide::{Seen, Step},
    escrow,
    facts::{self, Held, KeyringFacts},
    identities,
    kind::Kind,
    report,
};
use crate::{
    controllers::{
        connection::{Context, asked, has_begun, in_force::InForce},
        holds::has_ended,
    },
    secrets::Judged,
};

/// Secrets of keyrings.
pub struct Keyrings;

impl Kind for Keyrings {
    type Held = Held;
    type Seen = Seen;
    type Step = Step;

    fn known(context: &Context) -> &Judged<Held> {
        &context.keyrings
    }

    fn judge(secret: &Secret) -> Held {
        facts::judge(secret)
    }

    fn seen(context: &Context, keyring: &Metadata, held: &Held) -> Seen {
        seen(context, keyring, held)
    }

    fn change(secret: &mut Secret, step: &Step, seen: &Seen) -> Result<usize, KeyringError> {
        change::change(secret, step, seen)
    }

    async fn done(context: &Context, keyring: &Metadata, step: &Step, made: usize, before: &Held) {
        report::done(context, keyring, step, made, before).await;
    }

    fn failed(keyring: &Metadata, step: &Step, before: &Held, error: &kube::Error) {
        report::failed(keyring, step, before, error);
    }
}

/// Everything that matters beside the keyring, now.
pub fn seen(context: &Context, keyring: &Metadata, held: &Held) -> Seen {
    let of = facts::connection(keyring);
    let connection = of.as_ref().and_then(|of| context.stores.connections.get(of));
    let connection = connection.filter(|connection| connection.metadata.deletion_timestamp.is_none());
    let facts = held.keyring.as_ref().ok();
    let holds = connection.as_ref().map(|connection| asked(connection, &context.stores, &context.config));
    let unreached = context.clock.unreached();
    let identities = of
        .as_ref()
        .and_then(|of| identities::known(context, of.namespace.as_deref().unwrap_or_default(), &of.name));
    Seen {
        holds: holds.unwrap_or_default(),
        ended: connection.as_deref().map(|connection| ended(connection, unreached)).unwrap_or_default(),
        retention: connection.as_deref().and_then(retention),
        relay: of.zip(facts).and_then(|(of, facts)| context.heard.of(&of, &facts.id)),
        escrow: facts
            .map(|facts| escrow::state(context, identities.as_ref(), facts, connection.as_deref()))
            .unwrap_or_default(),
        database: connection.as_deref().and_then(database),
        recipients: facts.map(|facts| recipients(context, identities.as_ref(), facts)).unwrap_or_default(),
        now: context.clock.now(),
        unreached,
        agreed: context.clock.agrees(),
    }
}

/// Holds that have ended, as the connection's own reconcile has told it last.
fn ended(connection: &MarketplaceConnection, unreached: Timestamp) -> BTreeSet<String> {
    let told = connection.status.iter().flat_map(|status| &status.holds);
    told.filter(|hold| has_ended(hold, unreached)).map(|hold| hold.name.clone()).collect()
}

/// The audit log of its database, once there is a backup of it.
fn database(connection: &MarketplaceConnection) -> Option<String> {
    let status = connection.status.as_ref()?;
    let backups = status.backups.as_ref()?;
    let has_backup =
        Site::ALL.into_iter().any(|site| backups.site(site).is_some_and(|site| site.last_success.is_some()));
    status.audit.as_ref().filter(|_| has_backup).map(|audit| audit.chain.clone())
}

/// The retention in force, as the connection's own reconcile has recorded it.
pub fn retention(connection: &MarketplaceConnection) -> Option<Retention> {
    let recorded = connection.status.as_ref()?.retention.as_ref()?;
    Some((&InForce::from(recorded).terms).into())
}

/// What its identities open. While an account is being closed, they may go before the keyring.
fn recipients(
    context: &Context,
    identities: Option<&identities::facts::Held>,
    facts: &KeyringFacts,
) -> BTreeMap<BackupKey, Recipient> {
    if has_begun(facts.id.as_str(), context) {
        return facts.recipients.clone();
    }
    let known = identities.and_then(|held| held.identities.as_ref().ok());
    known.filter(|known| known.id == facts.id).map(|known| known.recipients.clone()).unwrap_or_default()
}
