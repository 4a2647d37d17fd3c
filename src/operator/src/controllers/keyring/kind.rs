//! What keyrings and identities of backups have in common.

use k8s_openapi::api::core::v1::Secret;
use marketrelay_keyring::KeyringError;

use super::Metadata;
use crate::{controllers::connection::Context, secrets::Judged};

/// A kind of Secrets of keys that die at their second.
pub trait Kind {
    /// What such a Secret is known by; none of it is secret.
    type Held: Clone + Send + Sync;
    /// Everything that matters beside it.
    type Seen: Send + Sync;
    /// One write.
    type Step: Send + Sync;

    /// Judgements of them.
    fn known(context: &Context) -> &Judged<Self::Held>;

    /// Reads one.
    fn judge(secret: &Secret) -> Self::Held;

    /// What matters beside it, now.
    fn seen(context: &Context, secret: &Metadata, held: &Self::Held) -> Self::Seen;

    /// Does a step to the Secret that was read, and says how many keys it made.
    fn change(secret: &mut Secret, step: &Self::Step, seen: &Self::Seen) -> Result<usize, KeyringError>;

    /// Tells of a step that was written. `before`: what the Secret held then.
    fn done(
        context: &Context,
        secret: &Metadata,
        step: &Self::Step,
        made: usize,
        before: &Self::Held,
    ) -> impl Future<Output = ()> + Send;

    /// Tells of a step that the API server refused.
    fn failed(secret: &Metadata, step: &Self::Step, before: &Self::Held, error: &kube::Error);
}
