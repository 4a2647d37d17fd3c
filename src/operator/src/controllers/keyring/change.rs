//! One step, done to the Secret that was read.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use marketrelay_api::labels;
use marketrelay_keyring::{Keyring, KeyringError};
use zeroize::Zeroize;

use super::{
    decide::{Escrowed, Seen, Step},
    facts::{annotations, grid, horizon, parse},
};
use crate::secrets::wipe;

/// Does it, and says how many keys it made.
pub fn change(secret: &mut Secret, step: &Step, seen: &Seen) -> Result<usize, KeyringError> {
    // By name alone: a keyring that can't be used loses its keys too.
    let due: Option<Vec<String>> = match step {
        Step::Destroy(epochs) => Some(epochs.iter().map(ToString::to_string).collect()),
        Step::DestroyHolds(holds) => Some(holds.iter().map(ToString::to_string).collect()),
        _ => None,
    };
    if let Some(names) = due {
        let data = secret.data.get_or_insert_default();
        for mut key in names.iter().filter_map(|name| data.remove(name)) {
            key.0.zeroize();
        }
        return Ok(0);
    }
    let mut keyring = parse(secret)?;
    let known = keyring.key_names();
    let made = match step {
        Step::Destroy(_) | Step::DestroyHolds(_) => 0,
        Step::Confirm => {
            keyring.confirm();
            0
        }
        Step::NoteDatabase(chain) => {
            secret.annotations_mut().insert(labels::DATABASE.to_owned(), chain.clone());
            0
        }
        Step::EndHold(hold) => {
            keyring.remove_hold(hold);
            0
        }
        Step::MoveHold(hold, until) => {
            keyring.move_hold(hold, *until);
            0
        }
        Step::AddHold(hold) => {
            keyring.add_hold(hold.clone())?;
            1
        }
        Step::Extend(retention) => {
            let from = seen.unreached;
            keyring.extend(grid(keyring.connection_id(), retention), from, horizon(retention, from))?
        }
        Step::DropVolumeKeys(below) => {
            keyring.drop_volume_keys_below(*below);
            0
        }
        Step::AddVolumeKey(epoch) => {
            let added = keyring.add_volume_key()?;
            secret.annotations_mut().extend(annotations(seen.now, *epoch));
            added.into_iter().count()
        }
        Step::AddAuditKey => usize::from(keyring.add_audit_key()?),
        Step::SetRecipients(recipients) => {
            keyring.set_recipients(recipients.clone());
            0
        }
    };
    let makes_keys = matches!(step, Step::Extend(_) | Step::AddHold(_));
    if makes_keys && seen.escrow != Escrowed::Unwanted && knows_pending(&keyring, seen) {
        keyring.hold_back(&known);
    }
    wipe(secret);
    let entries = keyring.entries().into_iter();
    secret.data = Some(entries.map(|(name, bytes)| (name, ByteString(bytes))).collect());
    Ok(made)
}

/// An older relay refuses a keyring in which keys wait.
fn knows_pending(keyring: &Keyring, seen: &Seen) -> bool {
    let knows = seen.relay.as_ref().is_some_and(|relay| relay.recipients.is_some());
    knows || !keyring.pending().is_empty() || !keyring.recipients().is_empty()
}
