//! Leader election with a Lease. Written by replace with resourceVersion, so that of two candidates one wins; the
//! holder's own expiry is shorter than the lease and runs on a clock that goes on while the machine is suspended.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use rustix::time::{ClockId, clock_gettime};
use snafu::Snafu;
use tokio::time::{sleep, timeout};

use crate::names;

/// Others take over when nothing has changed for this long.
const LEASE: Duration = Duration::from_secs(15);
/// The holder gives up this long after its last success began.
const EXPIRY: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(3);

/// Leadership was lost: somebody else has it, or it could not be renewed in time.
#[derive(Debug, Snafu)]
#[snafu(display("leadership is lost: {why}"))]
pub struct Lost {
    why: String,
}

/// A candidate. `client` must not retry on its own, else a renewal could outlast the lease.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
}

/// Time since boot, suspension included.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

impl Candidate {
    /// In the operator's namespace.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&self) -> Leader<'_> {
        let mut seen: Option<(String, Duration)> = None;
        loop {
            let began = since_boot();
            match timeout(CALL, self.try_acquire(&mut seen)).await {
                Ok(Ok(Some(lease))) => return Leader { candidate: self, lease, renewed: began },
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease can't be read or taken"),
                Err(_) => tracing::warn!("the API server doesn't answer in time"),
            }
            sleep(RETRY).await;
        }
    }

    /// `seen`: the lease's version and since when, by our own clock, it hasn't changed.
    async fn try_acquire(&self, seen: &mut Option<(String, Duration)>) -> kube::Result<Option<Lease>> {
        let Some(lease) = self.api.get_opt(names::LEASE).await? else {
            let lease = Lease { metadata: named(), spec: Some(self.spec(0)) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let version = lease.resource_version().unwrap_or_default();
        let now = since_boot();
        let since = match seen {
            Some((known, since)) if *known == version => *since,
            _ => {
                *seen = Some((version, now));
                now
            }
        };
        if !holder.is_empty() && holder != self.identity && now.saturating_sub(since) < LEASE {
            return Ok(None);
        }
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
        let mut taken = lease;
        taken.spec = Some(self.spec(transitions.saturating_add(1)));
        won(self.api.replace(names::LEASE, &PostParams::default(), &taken).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn named() -> ObjectMeta {
    ObjectMeta { name: Some(names::LEASE.to_owned()), ..ObjectMeta::default() }
}

/// Who loses a race tries again later.
fn won(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Leads until it is lost or released.
pub struct Leader<'a> {
    candidate: &'a Candidate,
    lease: Lease,
    renewed: Duration,
}

impl Leader<'_> {
    /// Renews until leadership is lost.
    pub async fn hold(&mut self) -> Lost {
        loop {
            sleep(RENEW).await;
            let left = EXPIRY.saturating_sub(since_boot().saturating_sub(self.renewed));
            match timeout(left, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(lost)) => return lost,
                Err(_) => {
                    return LostSnafu { why: format!("not renewed within {} s", EXPIRY.as_secs()) }.build();
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Lost> {
        loop {
            let began = since_boot();
            let mut lease = self.lease.clone();
            if let Some(spec) = &mut lease.spec {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            let params = PostParams::default();
            match timeout(CALL, self.candidate.api.replace(names::LEASE, &params, &lease)).await {
                Ok(Ok(lease)) => {
                    (self.lease, self.renewed) = (lease, began);
                    return Ok(());
                }
                Ok(Err(kube::Error::Api(status))) if status.is_conflict() => self.reread().await?,
                Ok(Err(error)) => tracing::warn!(%error, "the lease can't be renewed"),
                Err(_) => tracing::warn!("the API server doesn't answer in time"),
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A renewal whose answer was lost conflicts with itself; another holder is the end.
    async fn reread(&mut self) -> Result<(), Lost> {
        let Ok(Ok(lease)) = timeout(CALL, self.candidate.api.get(names::LEASE)).await else { return Ok(()) };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder != self.candidate.identity {
            return LostSnafu { why: format!("{holder:?} holds it") }.fail();
        }
        self.lease = lease;
        Ok(())
    }

    /// Lets the next candidate lead at once.
    pub async fn release(mut self) {
        // A renewal that was cut off may have landed.
        if self.reread().await.is_err() {
            return;
        }
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        match timeout(CALL, self.candidate.api.replace(names::LEASE, &params, &self.lease)).await {
            Ok(Ok(_)) => tracing::info!("handed over"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease can't be handed over, it runs out"),
            Err(_) => tracing::warn!("the lease can't be handed over in time, it runs out"),
        }
    }
}
