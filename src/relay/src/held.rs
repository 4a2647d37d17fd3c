//! What a hold keeps, for who may read it: `marketrelay-relay held --hold NAME` in the relay's pod.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use marketrelay_api::relay::paths;
use marketrelay_keyring::{Keyring, OpenError};
use serde_json::json;
use snafu::{OptionExt, ResultExt, Whatever};

use crate::{
    keys,
    mounts::{self, at},
    settings::Settings,
    store::{
        Store,
        hold::{self, Opened},
    },
};

/// Orders per transaction: the relay can't empty its log during one.
const BATCH: usize = 100;

/// Standard output of the pod's first process.
const POD_LOG: &str = "/proc/1/fd/1";

/// What is asked for.
#[derive(clap::Args)]
pub struct Question {
    /// Name of the hold, as in the policy.
    #[arg(long)]
    pub hold: String,
    /// Where it is recorded that somebody has read it; in a pod always in its log.
    #[arg(long, default_value = POD_LOG, hide = true)]
    pub record: PathBuf,
}

/// Writes the orders that the hold keeps to `out`, one JSON object a line, as the webhook's `order`. That it does is
/// recorded first; without the record nothing is shown. The relay may run meanwhile.
pub fn show(root: &Path, question: &Question, out: &mut impl Write, now: Timestamp) -> Result<(), Whatever> {
    let settings = Settings::load(&at(root, paths::CONFIG))?;
    let mut keyring = keyring(root, &settings)?;
    keyring.drop_due(now);
    let key = mounts::entries(&at(root, paths::DATABASE_KEY)).whatever_context("no database key")?;
    let key = keys::secret_key(&key, "database-key").ok().whatever_context("no database key")?;
    let database = Store::beside(&at(root, paths::DATA), &key, &settings.id)
        .whatever_context("the database can't be read")?;
    let name = &question.hold;
    let orders = hold::count(&database, &keyring, name).whatever_context("the database can't be read")?;
    let orders = orders.with_whatever_context(|| {
        let known: Vec<_> = keyring.holds().map(|(key, _)| key.name()).collect();
        format!("there is no hold {name:?} here, or it has ended; there are: {}", known.join(", "))
    })?;
    let log = if root == Path::new("/") { Path::new(POD_LOG) } else { &question.record };
    record(log, &settings, name, orders, now)
        .with_whatever_context(|error| format!("it can't be recorded that this is read: {error}"))?;
    let mut after = 0;
    loop {
        let page = hold::page(&database, &keyring, name, after, BATCH);
        let page = page.whatever_context("the database can't be read")?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        for (_, order) in page {
            write(out, order)?;
        }
    }
}

fn keyring(root: &Path, settings: &Settings) -> Result<Keyring, Whatever> {
    let entries = mounts::entries(&at(root, paths::KEYRING)).whatever_context("no keyring is mounted")?;
    let keyring = keys::keyring(&entries, &settings.id);
    keyring.or_else(|reason| snafu::whatever!("the keyring can't be used: {reason}"))
}

/// What an earlier hold of the name kept, and its key is gone, is none of this one's.
fn write(out: &mut impl Write, order: Opened) -> Result<(), Whatever> {
    let order = match order {
        Err(OpenError::HoldKeyGone) => return Ok(()),
        order => order.whatever_context("a held order can't be opened")?,
    };
    out.write_all(&order).and_then(|()| out.write_all(b"\n")).whatever_context("can't be written")
}

/// A line in the pod's log, as the relay itself writes them.
fn record(to: &Path, settings: &Settings, hold: &str, orders: u64, now: Timestamp) -> io::Result<()> {
    let record = json!({
        "timestamp": now, "level": "INFO", "target": "marketrelay::audit",
        "fields": {
            "message": "audit", "action": "HeldOrdersRead", "namespace": settings.config.namespace,
            "connection": settings.config.name, "connection_id": settings.config.connection_id, "hold": hold,
            "orders": orders, "result": "done",
        },
    });
    let mut log = OpenOptions::new().append(true).open(to)?;
    log.write_all(format!("{record}\n").as_bytes())
}
