//! One step, done to the Secret that was read, and the Secret of a connection that has none.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use marketrelay_keyring::{BackupIdentities, ConnectionId, KeyringError};
use zeroize::Zeroize;

use super::{
    decide::{Seen, Step},
    facts::{Reach, parse},
};
use crate::{controllers::connection::key_metadata, names::Names, secrets::wipe};

/// Does it, and says how many identities it made.
pub fn change(secret: &mut Secret, step: &Step, seen: &Seen) -> Result<usize, KeyringError> {
    match step {
        // By name alone: what can't be used is destroyed too.
        Step::Destroy(names) => {
            let data = secret.data.get_or_insert_default();
            for mut identity in names.iter().filter_map(|name| data.remove(&name.to_string())) {
                identity.0.zeroize();
            }
            Ok(0)
        }
        Step::Extend(reach) => {
            let mut identities = parse(secret)?;
            let made = extend(&mut identities, reach, seen);
            wipe(secret);
            secret.data = Some(entries(&identities));
            Ok(made)
        }
    }
}

/// The first identities of a connection.
pub fn first(connection: &str, id: &ConnectionId, reach: &Reach, seen: &Seen) -> Secret {
    let mut identities = BackupIdentities::new(id.clone());
    extend(&mut identities, reach, seen);
    let name = Names(connection).backup_identities();
    Secret {
        metadata: key_metadata(&name, Some(connection), Some(id.as_str())),
        data: Some(entries(&identities)),
        ..Secret::default()
    }
}

fn extend(identities: &mut BackupIdentities, reach: &Reach, seen: &Seen) -> usize {
    let from = seen.unreached;
    identities.extend(reach.grid(identities.connection_id()), from, reach.horizon(from))
}

fn entries(identities: &BackupIdentities) -> BTreeMap<String, ByteString> {
    identities.entries().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect()
}
