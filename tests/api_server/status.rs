//! The status is written apart from the spec.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};

use crate::{
    samples::{Differences, Kind, create, set_status, yaml},
    support::with_namespace,
};

#[tokio::test]
async fn only_the_status_subresource_writes_the_status() {
    with_namespace(|space| async move {
        for kind in [Kind::Connection, Kind::Policy, Kind::Erasure] {
            let made = create(&space, kind, "status: {observedGeneration: 5}").await;
            assert!(made.data.get("status").is_none(), "{kind:?}");
            let both =
                Patch::Merge(yaml("{spec: {suspend: true, keyEpoch: 2d}, status: {observedGeneration: 1}}"));
            let api = kind.api(&space);
            let after =
                api.patch_status(&made.name_any(), &PatchParams::default(), &both).await.expect("a status");
            assert_eq!(after.data["spec"], made.data["spec"], "{kind:?}");
            assert_eq!(after.metadata.generation, Some(1), "{kind:?}");
            assert_eq!(after.data["status"]["observedGeneration"], 1, "{kind:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connections_identity_stays_once_it_is_minted() {
    with_namespace(|space| async move {
        let made = create(&space, Kind::Connection, "{}").await;
        let part = "status: Invalid value: connectionId can't be changed or removed: volumes, keys and backups are named after it";
        let mut differences = Differences::default();
        for (promise, status, part) in [
            ("none yet", "{marketplace: bol}", None),
            ("minted", "{connectionId: 3f6c}", None),
            ("changed", "{connectionId: 4711}", Some(part)),
            ("removed", "{connectionId: null}", Some(part)),
            ("the same", "{connectionId: 3f6c, observedGeneration: 2}", None),
        ] {
            let status = status.replace("4711", "'4711'");
            differences.note(promise, part, set_status(&space, Kind::Connection, &made, &status).await);
        }
        differences.none();
    })
    .await;
}
