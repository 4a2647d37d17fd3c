//! One write of the record's status, if it changed, onto the version that was read.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use marketrelay_api::{ConnectionRecord, ConnectionRecordStatus, labels};
use serde_json::json;

use crate::controllers::connection::Context;

/// Gives the record as it is then; `None`: it has changed meanwhile, or is gone.
pub async fn write(
    context: &Context,
    record: &ConnectionRecord,
    after: ConnectionRecordStatus,
) -> kube::Result<Option<ConnectionRecord>> {
    if record.status.as_ref() == Some(&after) {
        return Ok(Some(record.clone()));
    }
    let patch = json!({
        "apiVersion": ConnectionRecord::api_version(&()),
        "kind": ConnectionRecord::kind(&()),
        "metadata": {"name": record.name_any(), "uid": record.uid(), "resourceVersion": record.resource_version()},
        "status": after,
    });
    let api = Api::<ConnectionRecord>::namespaced(context.client.clone(), &context.namespace);
    let params = PatchParams::apply(labels::OPERATOR).force();
    match api.patch_status(&record.name_any(), &params, &Patch::Apply(&patch)).await {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => Ok(None),
        written => {
            let written = written?;
            context.metrics.status_written();
            Ok(Some(written))
        }
    }
}
