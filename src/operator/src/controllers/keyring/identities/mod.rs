//! Identities that open backups: made before the keyring has their recipients, destroyed at their second.

pub mod change;
pub mod decide;
mod ensure;
pub mod facts;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use marketrelay_keyring::{ConnectionId, KeyringError};

use super::{Metadata, facts::connection, keyrings::retention, kind::Kind, report};
use crate::{controllers::connection::Context, names::Names, secrets::Judged};
use decide::{Seen, Step};
pub use ensure::{look, make};
use facts::{Held, Reach};

/// Secrets of identities.
pub struct Identities;

impl Kind for Identities {
    type Held = Held;
    type Seen = Seen;
    type Step = Step;

    fn known(context: &Context) -> &Judged<Held> {
        &context.identities
    }

    fn judge(secret: &Secret) -> Held {
        facts::judge(secret)
    }

    fn seen(context: &Context, secret: &Metadata, held: &Held) -> Seen {
        wanted(context, secret, held.identities.as_ref().ok().map(|facts| &facts.id))
    }

    fn change(secret: &mut Secret, step: &Step, seen: &Seen) -> Result<usize, KeyringError> {
        change::change(secret, step, seen)
    }

    async fn done(context: &Context, secret: &Metadata, step: &Step, made: usize, _: &Held) {
        match step {
            Step::Destroy(names) => {
                let names: Vec<_> = names.iter().map(|name| (name.to_string(), name.destroy_at())).collect();
                report::destroyed(context, secret, "BackupIdentityDestroyed", "backup", &names).await;
            }
            Step::Extend(_) => {
                let (name, namespace) = (secret.name_any(), secret.namespace());
                tracing::info!(secret = name, namespace, made, "identities of backups extended");
            }
        }
    }

    fn failed(secret: &Metadata, step: &Step, _: &Held, error: &kube::Error) {
        if let Step::Destroy(names) = step {
            for name in names {
                report::refused(secret, "BackupIdentityDestroyed", &name.to_string(), error);
            }
        }
    }
}

/// What the connection of this id wants, now, whose key Secret it is.
fn wanted(context: &Context, secret: &Metadata, id: Option<&ConnectionId>) -> Seen {
    let own = connection(secret).and_then(|of| context.stores.connections.get(&of)).filter(|own| {
        let known = own.status.as_ref().and_then(|status| status.connection_id.as_deref());
        own.metadata.deletion_timestamp.is_none() && known.is_some() && known == id.map(ConnectionId::as_str)
    });
    Seen {
        reach: own.as_deref().and_then(retention).and_then(Reach::of),
        now: context.clock.now(),
        unreached: context.clock.unreached(),
        agreed: context.clock.agrees(),
    }
}

/// What is known of a connection's identities.
pub fn known(context: &Context, namespace: &str, connection: &str) -> Option<Held> {
    context.identities.last(namespace, &Names(connection).backup_identities())
}
