use jiff::Timestamp;
use marketrelay_api::backup::PastErasures;
use marketrelay_audit::Signer;
use marketrelay_escrow::{Entries, Escrow};
use marketrelay_keyring::{BackupIdentities, ConnectionId, DIGEST_KEY_ENTRY, Keyring, SecretKey};

const LONGEST_NAMESPACE: usize = 63;
const LONGEST_NAME: usize = 40;
/// Of the uid of a request; Kubernetes' have 36.
const LONGEST_UID: usize = 200;
/// The first volume key of the new cluster. It wraps nothing yet: in backups are none of the volume keys' wraps.
const VOLUME_KEY: &str = "volume.1";

/// The escrowed keys of a connection, without those whose time has come.
#[derive(Debug)]
pub struct Opened {
    pub id: ConnectionId,
    pub namespace: String,
    pub name: String,
    pub marketplace: String,
    /// The audit log of its database.
    pub chain: Option<String>,
    pub keyring: Keyring,
    pub identities: BackupIdentities,
    pub digest: SecretKey,
    pub erasures: PastErasures,
    /// Of the relay: what it has signed is a backup.
    pub public_key: String,
}

impl Opened {
    /// Those of the connection in whose folder they were. Whoever can write there can put anything there that is encrypted to the
    /// recipient, so nothing of it is believed to be a name before it was looked at.
    pub fn new(escrow: Escrow, id: &ConnectionId, now: Timestamp) -> Result<Self, String> {
        if escrow.connection_id != id.as_str() {
            return Err(
                "the escrowed keys are of another connection than that in whose folder they are".to_owned()
            );
        }
        if !is_label(&escrow.namespace, LONGEST_NAMESPACE) || !is_label(&escrow.name, LONGEST_NAME) {
            return Err("the escrowed keys name a namespace or a connection that can't be".to_owned());
        }
        if !escrow.erasures.requests.iter().all(|erasure| is_label(&erasure.uid, LONGEST_UID)) {
            return Err("the escrowed keys name an erasure that can't be".to_owned());
        }
        let keyring = keyring(&escrow.keyring, id, now)?;
        let seed = keyring.audit_key().ok_or("the escrowed keyring has no audit key")?;
        let signer = Signer::new(seed.expose()).map_err(|error| error.to_string())?;
        Ok(Self {
            id: id.clone(),
            public_key: signer.public_key(),
            identities: identities(&escrow.identities, id, now)?,
            digest: digest_key(&escrow.digest_key)?,
            namespace: escrow.namespace,
            name: escrow.name,
            marketplace: escrow.marketplace,
            chain: escrow.chain,
            erasures: escrow.erasures,
            keyring,
        })
    }

    /// How a message names it.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn is_label(text: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(plain))
        && text.len() <= longest
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

fn keyring(entries: &Entries, id: &ConnectionId, now: Timestamp) -> Result<Keyring, String> {
    let fresh = SecretKey::generate().map_err(|error| error.to_string())?;
    let escrowed = entries.iter().filter(|(name, _)| !name.starts_with("volume."));
    let all = escrowed.chain([(VOLUME_KEY, &fresh.expose()[..])]);
    let keyring = Keyring::from_entries(all);
    let mut keyring = keyring.map_err(|error| format!("the escrowed keyring can't be used: {error}"))?;
    if keyring.connection_id() != id {
        return Err("the escrowed keyring is another connection's".to_owned());
    }
    // The operator sets them, by the identities that there are then.
    keyring.set_recipients([].into());
    keyring.drop_due(now);
    Ok(keyring)
}

fn identities(entries: &Entries, id: &ConnectionId, now: Timestamp) -> Result<BackupIdentities, String> {
    let identities = BackupIdentities::from_entries(entries.iter());
    let mut identities =
        identities.map_err(|error| format!("the escrowed identities can't be used: {error}"))?;
    if identities.connection_id() != id {
        return Err("the escrowed identities are another connection's".to_owned());
    }
    identities.drop_due(now);
    Ok(identities)
}

fn digest_key(entries: &Entries) -> Result<SecretKey, String> {
    let bytes = entries.get(DIGEST_KEY_ENTRY).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(SecretKey::from).ok_or_else(|| "the escrowed digest key can't be used".to_owned())
}
