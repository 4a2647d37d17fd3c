//! Secrets with keys: their names and labels, by which operator and admission policy know them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::labels;

/// The Secret of a namespace's digest key.
pub const DIGEST_KEY: &str = "marketrelay-digest-key";

/// The keyring of the connection `connection`.
pub fn keyring(connection: &str) -> String {
    format!("{connection}-keyring")
}

/// The identities that open its backups.
pub fn backup_identities(connection: &str) -> String {
    format!("{connection}-backup-identities")
}

/// Of a key Secret of the connection and id, if it is one connection's.
pub fn metadata(name: &str, connection: Option<&str>, id: Option<&str>) -> ObjectMeta {
    let fixed = [
        (labels::NAME, labels::APP),
        (labels::MANAGED_BY, labels::OPERATOR),
        (labels::COMPONENT, labels::KEYS),
        (labels::VELERO_EXCLUDE, "true"),
    ];
    let connection =
        connection.into_iter().flat_map(|name| [(labels::CONNECTION, name), (labels::INSTANCE, name)]);
    let id = id.map(|id| (labels::CONNECTION_ID, id));
    let all = fixed.into_iter().chain(connection).chain(id);
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}
