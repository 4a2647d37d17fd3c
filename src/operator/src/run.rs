//! The operator put together.

use std::{fmt::Debug, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Client, Resource,
    runtime::{
        Controller,
        controller::{self, Action},
        events::Reporter,
        reflector::{ObjectRef, Store},
    },
};
use marketrelay_api::{OperatorConfig, labels};
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Whatever};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Record,
    clock::{self, Clock},
    controllers::{
        backup::{Releaser, Scoped},
        connection::{self, Context, Memory},
        erasure, keyring, policy, record, retained,
    },
    events::Events,
    failures::{self, Failures},
    leader::Candidate,
    metrics::{Led, Metrics},
    names,
    notices::Notices,
    pki::{self, Authority, Subject},
    queue::Queue,
    relay_client::{Addresses, RelayClient},
    rollout::{self, Waves},
    scope::Scope,
    secrets::Judged,
    server,
    stores::{self, Changes, Watches},
};

/// How soon a controller works on what changes.
#[derive(Clone, Copy)]
struct Pace {
    /// Changes of one object that come together are worked on together.
    debounce: Duration,
    /// Between two attempts.
    longest_wait: Duration,
}

const CALM: Pace = Pace { debounce: Duration::from_millis(100), longest_wait: failures::LONGEST };
/// Keys die at their second.
const AT_ONCE: Pace = Pace { debounce: Duration::ZERO, longest_wait: Duration::from_secs(15) };
/// Between two comparisons of the clocks.
const COMPARISON: Duration = Duration::from_mins(1);
/// A reconcile that the API server holds up longer is tried again later.
const RECONCILE: Duration = Duration::from_mins(1);
/// Reconciles that are under way when the operator is asked to end have this long.
const LAST_RECONCILES: Duration = Duration::from_secs(20);

/// What the operator is started with.
pub struct Settings {
    /// The configuration file.
    pub config: OperatorConfig,
    /// The operator's own namespace.
    pub namespace: String,
    /// The pod's name: who holds the lease, who reports events.
    pub identity: String,
    /// What is worked on.
    pub scopes: Vec<Scope>,
    /// Where relays are; without it the cluster's DNS says so.
    pub addresses: Option<Addresses>,
    /// What keys die by.
    pub clock: Clock,
}

/// Clients of the API server.
pub struct Clients {
    /// For everything.
    pub work: Client,
    /// For the lease: never retries on its own.
    pub lease: Client,
}

struct Shared {
    scopes: Vec<Scope>,
    namespace: String,
    client: Client,
    dated: Client,
    clock: Arc<Clock>,
    config: Arc<OperatorConfig>,
    authority: Arc<Authority>,
    relays: Arc<RelayClient>,
    waves: Arc<Waves>,
    closures: Arc<record::Closures>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
}

/// Waits for leadership, then reconciles until `stop`, and hands over. An error: leadership was lost, or the start failed.
pub async fn run(
    settings: Settings,
    clients: Clients,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Whatever> {
    let authority = pki::load_or_create(&clients.work, &settings.namespace).await;
    let authority = Arc::new(authority.whatever_context("the certificate authority can't be had")?);
    let relays = RelayClient::new(authority.clone(), settings.addresses.clone(), Timestamp::now());
    let relays = Arc::new(relays.whatever_context("client certificate")?);
    let clock = Arc::new(settings.clock);
    let metrics = Arc::new(Metrics::new(clock.clone()).whatever_context("metrics")?);
    let host = format!("marketrelay-operator.{}.svc", settings.namespace);
    let serving = CancellationToken::new();
    let _until_the_end = serving.clone().drop_guard();
    let certificate = server::certificate(authority.clone(), host, serving.clone());
    let notices = Arc::new(Notices::new(clients.work.clone(), relays.clone(), settings.scopes.clone()));
    let router = server::router(metrics.clone(), notices);
    let server = marketrelay_mtls::serve(listener, certificate, router, serving);
    tokio::spawn(server);
    let candidate = Candidate::new(clients.lease, &settings.namespace, settings.identity.clone());
    let identity = settings.identity;
    let reporter = Reporter { controller: labels::OPERATOR.to_owned(), instance: Some(identity.clone()) };
    let shared = Arc::new(Shared {
        config: Arc::new(settings.config),
        scopes: settings.scopes,
        namespace: settings.namespace,
        dated: clock.compared(&clients.work),
        clock,
        events: Arc::new(Events::new(clients.work.clone(), reporter)),
        client: clients.work,
        relays,
        waves: Arc::default(),
        closures: Arc::default(),
        authority,
        metrics,
    });
    tracing::info!("waiting for leadership");
    let Some(mut leader) = stop.run_until_cancelled(candidate.acquire()).await else { return Ok(()) };
    tracing::info!("leads");
    let record = Record {
        action: "OperatorLeads",
        namespace: &shared.namespace,
        kind: "Pod",
        name: &identity,
        detail: env!("CARGO_PKG_VERSION"),
        ..Record::default()
    };
    record.write();
    tokio::select! {
        // Work stops where it is: somebody else may already have begun.
        lost = leader.hold() => return Err(lost).whatever_context("can't go on"),
        () = lead(&shared, stop) => {}
    }
    leader.release().await;
    Ok(())
}

async fn lead(shared: &Arc<Shared>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let (mut all, mut told) = (Vec::new(), Vec::new());
    let records = stores::Records::new();
    let jobs = Arc::new(Notify::new());
    for scope in &shared.scopes {
        let (watches, changes, senders) =
            stores::watch(&shared.client, scope, &shared.namespace, &records, &jobs);
        told.push((scope.clone(), senders));
        let led =
            Led { stores: watches.stores.clone(), keyrings: Arc::default(), identities: Arc::default() };
        all.push(led.clone());
        tasks.spawn(work(shared.clone(), watches, led, changes, stop.clone()));
    }
    let _watched = records.watch(&shared.client, &shared.namespace, told);
    shared.waves.watch(all.iter().map(|led| led.stores.stateful_sets.clone()).collect());
    tasks.spawn(release(shared, &all, jobs, stop.clone()));
    shared.metrics.leads(all);
    let (certificates, clocks) = (pin!(keep_certificates(shared)), pin!(compare_clocks(shared)));
    tokio::select! {
        () = stop.cancelled() => {}
        () = certificates => {}
        () = clocks => {}
    }
    let ending = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_RECONCILES, ending).await.is_err() {
        tracing::warn!("reconciles are cut off, they didn't end in time");
    }
    shared.metrics.leads(Vec::new());
}

/// Jobs of backups, of all scopes, until `stop`.
fn release(
    shared: &Shared,
    all: &[Led],
    bell: Arc<Notify>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let scopes = all.iter().map(|led| Scoped { stores: led.stores.clone(), read: led.stores.read() });
    let releaser = Releaser {
        client: shared.client.clone(),
        scopes: scopes.collect(),
        bell,
        clock: shared.clock.clone(),
        most: shared.config.backup.as_ref().map_or(0, |settings| settings.concurrent_runs as usize),
        metrics: shared.metrics.clone(),
        events: shared.events.clone(),
    };
    async move {
        stop.run_until_cancelled(releaser.run()).await;
    }
}

/// Never ends.
async fn keep_certificates(shared: &Shared) {
    let Shared { client, namespace, authority, .. } = shared;
    let host = format!("{}.{namespace}.svc", names::NOTICES);
    let kept = [(names::METRICS_CLIENT, Subject::Metrics), (names::NOTICES, Subject::Notices(host.as_str()))];
    loop {
        for (name, subject) in &kept {
            let kept = pki::keep(client, namespace, name, subject, authority, Timestamp::now()).await;
            if let Err(error) = kept {
                tracing::warn!(%error, "a certificate of the operator's namespace can't be kept");
            }
        }
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
}

/// Never ends.
async fn compare_clocks(shared: &Shared) {
    loop {
        if let Err(error) = clock::ask(&shared.dated, &shared.namespace).await {
            tracing::warn!(%error, "the API server's time can't be read");
        }
        if let Some(ahead) = shared.clock.ahead().filter(|_| !shared.clock.agrees()) {
            tracing::error!(
                ahead_seconds = ahead.as_secs(),
                "no key is destroyed: the API server's clock differs"
            );
        }
        tokio::time::sleep(COMPARISON).await;
    }
}

/// One scope, until `stop`.
async fn work(shared: Arc<Shared>, watches: Watches, led: Led, changes: Changes, stop: CancellationToken) {
    if stop.run_until_cancelled(watches.ready()).await.is_none() {
        return;
    }
    let context = Arc::new(Context {
        client: shared.client.clone(),
        dated: shared.dated.clone(),
        clock: shared.clock.clone(),
        stores: watches.stores.clone(),
        config: shared.config.clone(),
        revision: rollout::revision(&shared.config),
        namespace: shared.namespace.clone(),
        authority: shared.authority.clone(),
        relays: shared.relays.clone(),
        waves: shared.waves.clone(),
        closures: shared.closures.clone(),
        copies: record::Copies::default(),
        events: shared.events.clone(),
        metrics: shared.metrics.clone(),
        credentials: Judged::default(),
        signing: Judged::default(),
        keyrings: led.keyrings,
        identities: led.identities,
        single_keys: Judged::default(),
        memory: Memory::default(),
        heard: keyring::Heard::default(),
    });
    if stop.run_until_cancelled(keyring::catch_up(&context)).await.is_none() {
        return;
    }
    let stores = &watches.stores;
    let keyrings = controller(
        "Keyring",
        stores.secrets.clone(),
        changes.keyrings,
        AT_ONCE,
        context.clone(),
        stop.clone(),
        |object, context| async move {
            keyring::reconcile(object, context).await.map_err(|error| (error.category(), error.to_string()))
        },
    );
    let connections = controller(
        "MarketplaceConnection",
        stores.connections.clone(),
        changes.connections,
        CALM,
        context.clone(),
        stop.clone(),
        |object, context| async move {
            let reconciled = Box::pin(connection::reconcile(object, context)).await;
            reconciled.map_err(|error| (error.category(), error.to_string()))
        },
    );
    let policies = controller(
        "RetentionPolicy",
        stores.policies.clone(),
        changes.policies,
        CALM,
        context.clone(),
        stop.clone(),
        |object, context| async move {
            policy::reconcile(object, context).await.map_err(|error| ("status", error.to_string()))
        },
    );
    let erasures = controller(
        "ErasureRequest",
        stores.erasures.clone(),
        changes.erasures,
        CALM,
        context.clone(),
        stop.clone(),
        |object, context| async move {
            let reconciled = Box::pin(erasure::reconcile(object, context)).await;
            reconciled.map_err(|error| (error.category(), error.to_string()))
        },
    );
    let records = controller(
        "ConnectionRecord",
        stores.records.clone(),
        changes.records,
        CALM,
        context,
        stop.clone(),
        |object, context| async move {
            let reconciled = Box::pin(record::reconcile(object, context)).await;
            reconciled.map_err(|error| (error.category(), error.to_string()))
        },
    );
    let retained = retained::run(shared.client.clone(), watches.stores.clone(), changes.retained);
    tokio::join!(keyrings, connections, policies, erasures, records, stop.run_until_cancelled(retained));
}

/// A failed reconcile: its category, and what happened.
#[derive(Debug, snafu::Snafu)]
#[snafu(display("{message}"))]
struct Failed {
    message: String,
}

async fn controller<K, F>(
    kind: &'static str,
    store: Store<K>,
    changes: futures::channel::mpsc::UnboundedReceiver<ObjectRef<K>>,
    pace: Pace,
    context: Arc<Context>,
    stop: CancellationToken,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, (&'static str, String)>> + Send + 'static,
{
    let failures = Arc::new(Failures::<K>::new(pace.longest_wait));
    let settings = controller::Config::default()
        .debounce(pace.debounce)
        .concurrency(context.config.controller.concurrency);
    let queue = Arc::new(Queue::<K>::new(context.metrics.queue_length(kind)));
    let (arriving, leaving, gone) = (queue.clone(), queue.clone(), failures.clone());
    let changes = changes.inspect(move |reference| arriving.put(reference));
    let counting = failures.clone();
    let run = move |object: Arc<K>, context: Arc<Context>| {
        let (failures, queue) = (counting.clone(), queue.clone());
        async move {
            let reference = ObjectRef::from_obj(object.as_ref());
            queue.take(&reference);
            let running = context.metrics.begin(kind);
            let began = std::time::Instant::now();
            let result = tokio::time::timeout(RECONCILE, reconcile(object, context.clone())).await;
            let result = result.unwrap_or_else(|_| Err(("timeout", "not done in time".to_owned())));
            drop(running);
            let category = result.as_ref().err().map(|(category, _)| *category);
            context.metrics.ended(kind, began.elapsed(), category);
            if result.is_ok() {
                failures.forget(&reference);
            }
            result.map_err(|(_, message)| Failed { message })
        }
    };
    let policy = move |object: Arc<K>, error: &Failed, _: Arc<Context>| {
        let after = failures.next(ObjectRef::from_obj(object.as_ref()));
        tracing::warn!(kind, object = %ObjectRef::from_obj(object.as_ref()), %error, ?after, "reconcile failed");
        Action::requeue(after)
    };
    Controller::for_stream(stream::pending(), store)
        .with_config(settings)
        .reconcile_on(changes)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(run, policy, context)
        // Results are counted above.
        .for_each(|result| {
            if let Err(controller::Error::ObjectNotFound(object)) = result {
                let reference = ObjectRef::new(&object.name).within(&object.namespace.unwrap_or_default());
                leaving.take(&reference);
                gone.forget(&reference);
            }
            std::future::ready(())
        })
        .await;
}
