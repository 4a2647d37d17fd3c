//! The audit log as it is exported, and its verification.

use jiff::Timestamp;
use marketrelay_audit::{Options, Signer, Summary, Verifier};
use marketrelay_keyring::Keyring;
use marketrelay_relay::{audit::export, store::Store};

/// Who signs with this keyring.
pub fn signer(keyring: &Keyring) -> Signer {
    Signer::new(keyring.audit_key().expect("a new keyring has one").expose()).expect("a key")
}

/// The lines after a record.
pub async fn exported(store: &Store, signer: Signer, after: u64) -> Vec<String> {
    let export = move |connection: &rusqlite::Connection| {
        let export = export::begin(connection, &signer, after, Timestamp::now())?;
        let (mut export, mut text) = (export.expect("such a record"), String::new());
        loop {
            let lines = export.next(connection)?;
            if lines.is_empty() {
                return Ok(text);
            }
            text.push_str(&lines);
        }
    };
    store.read(export).await.expect("an export").lines().map(str::to_owned).collect()
}

/// What is wrong with them, for a person.
pub fn verify(lines: &[String], options: Options) -> Result<Summary, String> {
    let mut verifier = Verifier::new(options);
    let read = lines.iter().try_for_each(|line| verifier.read(line.as_bytes()));
    read.and_then(|()| verifier.finish()).map_err(|fault| fault.to_string())
}
