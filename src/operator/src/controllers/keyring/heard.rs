//! What relays last said of their keyrings, as the connections' reconciles heard it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::runtime::reflector::ObjectRef;
use marketrelay_api::{
    MarketplaceConnection,
    relay::{KeyringUse, RelayStatus},
};
use marketrelay_keyring::ConnectionId;

type Connection = ObjectRef<MarketplaceConnection>;

/// The last word of each relay, forgotten with a restart.
#[derive(Default)]
pub struct Heard(Mutex<HashMap<Connection, (String, KeyringUse)>>);

impl Heard {
    /// A relay answered.
    pub fn hear(&self, relay: Connection, status: &RelayStatus) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &status.keyring {
            Some(word) => words.insert(relay, (status.connection_id.clone(), word.clone())),
            None => words.remove(&relay),
        };
    }

    /// A relay that doesn't run says nothing.
    pub fn forget(&self, relay: &Connection) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(relay);
    }

    /// The word of the connection's own relay on the keyring of this id.
    pub fn of(&self, relay: &Connection, id: &ConnectionId) -> Option<KeyringUse> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(relay).filter(|(said, _)| said == id.as_str()).map(|(_, word)| word.clone())
    }
}
