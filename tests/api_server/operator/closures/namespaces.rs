//! A customer's namespace is deleted: the keys go with it, the record goes on in the operator's namespace.

use k8s_openapi::api::core::v1::Namespace;

use super::{
    Api, CONFIG, ClosureCause, ConnectionRecord, DeleteParams, DynamicObject, ListParams,
    MarketplaceConnection, Operator, Patch, PatchParams, RecordPhase, ResourceExt, bind, children, connected,
    discard, furnish, identity, json, noted, phase, proof, reaches, record, says,
};
use crate::{
    operator::{grant, rights},
    support::{PLANE, Space, configuration, with_namespace},
};

/// As the namespace's controller does: everything goes, in whatever order.
async fn empty(space: &Space) {
    let connections = space.api::<MarketplaceConnection>();
    connections.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("deleted");
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for (kind, version, _) in children::APPLIED {
        let api: Api<DynamicObject> = children::api(space, kind, version);
        for name in api.list(&ListParams::default()).await.expect("a list").iter().map(ResourceExt::name_any)
        {
            api.patch(&name, &PatchParams::default(), &none).await.expect("free to go");
            api.delete(&name, &DeleteParams::default()).await.expect("deleted");
        }
    }
}

pub(super) async fn condemn(space: &Space) {
    let namespaces = Api::<Namespace>::all(space.client.clone());
    namespaces.delete(&space.name, &DeleteParams::default()).await.expect("deleted");
}

/// An operator that lives elsewhere, and a connection with a bound volume; its id and the volume.
async fn inhabited(space: &Space, home: &Space) -> (Operator, String, String) {
    furnish(space).await;
    grant(home, space, &rights()).await;
    let access = configuration(&PLANE).await;
    let operator = Operator::replica(access, home, space, CONFIG, "operator-0").await;
    connected(space, "bol").await;
    let volume = bind(space, "bol").await;
    (operator, identity(space, "bol").await, volume)
}

async fn volume_is_waited_for(space: &Space, home: &Space, id: &str, volume: &str) {
    says(home, space, id, &format!("still there: PersistentVolume {volume} (its reclaim policy is Retain"))
        .await;
    let waiting = record(home, id).await;
    assert_eq!(phase(&waiting), RecordPhase::Closing, "a volume is left");
    assert!(proof(&waiting).expect("a closure").keys_destroyed_at.is_some());
    discard(space, volume).await;
    let closed: ConnectionRecord = reaches(home, space, id, RecordPhase::Closed).await;
    assert_eq!(proof(&closed).expect("a proof").cause, ClosureCause::NamespaceDeleted);
    noted(&closed, "PersistentVolume", volume);
}

#[tokio::test]
async fn deleting_a_namespace_closes_its_accounts_and_waits_for_nothing() {
    with_namespace(|space| async move {
        let home = Space::make(space.client.clone()).await;
        let (_operator, id, volume) = inhabited(&space, &home).await;
        let objects: Vec<_> = [children::APPLIED.as_slice(), &children::KEYS].concat();
        for (kind, version, suffix) in objects {
            let object = children::api(&space, kind, version).get(&format!("bol{suffix}")).await.expect(kind);
            let ours = object.finalizers().iter().any(|name| name.contains("marketrelay"));
            assert!(!ours, "{kind} waits for the operator");
        }
        condemn(&space).await;
        empty(&space).await;
        volume_is_waited_for(&space, &home, &id, &volume).await;
        home.remove().await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_went_while_no_operator_ran_is_noticed_at_the_start() {
    with_namespace(|space| async move {
        let home = Space::make(space.client.clone()).await;
        let (operator, id, volume) = inhabited(&space, &home).await;
        operator.stop().await;
        condemn(&space).await;
        empty(&space).await;
        assert_eq!(phase(&record(&home, &id).await), RecordPhase::Active);
        let access = configuration(&PLANE).await;
        let _operator = Operator::replica(access, &home, &space, CONFIG, "operator-0").await;
        volume_is_waited_for(&space, &home, &id, &volume).await;
        home.remove().await;
    })
    .await;
}
