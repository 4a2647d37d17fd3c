//! A connection's record is made with its id.

use kube::{
    Api,
    api::{ObjectMeta, PostParams},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{ConnectionRecord, ConnectionRecordSpec, labels};

use crate::{controllers::connection::Context, names::Names};

/// Makes it, unless the stores know it: one request for each new connection, none afterwards.
pub async fn ensure(
    context: &Context,
    id: &str,
    (namespace, connection): (&str, &str),
    marketplace: &str,
) -> kube::Result<()> {
    if context.stores.records.get(&ObjectRef::new(id).within(&context.namespace)).is_some() {
        return Ok(());
    }
    let labels = [
        (labels::NAME, labels::APP),
        (labels::MANAGED_BY, labels::OPERATOR),
        (labels::NAMESPACE, namespace),
        (labels::CONNECTION, connection),
        (labels::MARKETPLACE, marketplace),
    ];
    let record = ConnectionRecord {
        metadata: ObjectMeta {
            name: Some(id.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: ConnectionRecordSpec {
            namespace: namespace.to_owned(),
            connection: connection.to_owned(),
            marketplace: marketplace.to_owned(),
            volume: Names(connection).volume(),
            closure: None,
            abandon_stores: Vec::new(),
        },
        status: None,
    };
    let api = Api::<ConnectionRecord>::namespaced(context.client.clone(), &context.namespace);
    match api.create(&PostParams::default(), &record).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(drop),
    }
}
