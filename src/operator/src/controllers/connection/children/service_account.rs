use k8s_openapi::api::core::v1::ServiceAccount;
use marketrelay_api::labels;

use super::Plan;

/// The relay's identity in the cluster; it has no rights, and its token is nowhere.
pub fn build(plan: &Plan<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: plan.owned(plan.names().relay(), labels::RELAY),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
