//! Audit records: one line of JSON for each deed, under a target of its own that no log level hides. They hold no
//! personal data and no key, and the lines of one process are a chain (docs/operations/audit.md).

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use jiff::Timestamp;
pub use marketrelay_audit::LOG_TARGET as TARGET;
use marketrelay_audit::{Fields, Position, link};

/// A deed on an object of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// What was done, CamelCase and bounded.
    pub action: &'static str,
    /// The object's namespace.
    pub namespace: &'a str,
    /// The object's kind.
    pub kind: &'static str,
    /// The object's name.
    pub name: &'a str,
    /// The connection that it is about; empty if it is about several or none.
    pub connection_id: &'a str,
    /// Which part of it, or how many, or from what to what.
    pub detail: &'a str,
    /// `None`: it was done. Otherwise why it wasn't.
    pub error: Option<&'a str>,
    /// Of a key: when it had to die, and how many seconds later it did.
    pub destroyed: Option<(Timestamp, f64)>,
}

/// This process's records. The log is the process's, so its chain is too.
static LOG: LazyLock<Mutex<Log>> = LazyLock::new(|| {
    let chain = uuid::Uuid::new_v4().to_string();
    Mutex::new(Log { chain, last: Position::START, counts: BTreeMap::new() })
});

/// Records by action and result.
pub type Counts = BTreeMap<(&'static str, &'static str), u64>;

struct Log {
    chain: String,
    last: Position,
    counts: Counts,
}

/// How many records this process has written.
pub fn counts() -> Counts {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
}

impl Record<'_> {
    /// Writes it.
    pub fn write(&self) {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = self.link(&log.chain, log.last, Timestamp::now());
        log.last = linked.position;
        *log.counts.entry((self.action, self.result())).or_default() += 1;
        linked.write(&log.chain, self);
    }

    fn result(&self) -> &'static str {
        if self.error.is_some() { "failed" } else { "done" }
    }

    /// Its place in the chain, and everything that its hash covers and that isn't in it already.
    fn link(&self, chain: &str, last: Position, now: Timestamp) -> Linked {
        let linked = Linked {
            at: now.to_string(),
            destroy_at: self.destroyed.map(|(at, _)| at.to_string()),
            late_milliseconds: self.destroyed.map(|(_, seconds)| milliseconds(seconds)),
            previous: marketrelay_audit::hex(&last.hash),
            position: last,
        };
        let mut fields = linked.fields(self);
        Linked { position: link(&mut fields, chain, last), ..linked }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no key is late by so many years")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

struct Linked {
    at: String,
    destroy_at: Option<String>,
    late_milliseconds: Option<i64>,
    previous: String,
    position: Position,
}

impl Linked {
    /// As the line has them.
    fn fields(&self, record: &Record<'_>) -> Fields {
        let texts = [
            ("action", record.action),
            ("at", &self.at),
            ("connection_id", record.connection_id),
            ("detail", record.detail),
            ("kind", record.kind),
            ("name", record.name),
            ("namespace", record.namespace),
            ("result", record.result()),
        ];
        let optional = [("error", record.error), ("destroy_at", self.destroy_at.as_deref())];
        let optional = optional.into_iter().filter_map(|(name, text)| Some((name, text?)));
        let mut fields: Fields =
            texts.into_iter().chain(optional).map(|(name, text)| (name.to_owned(), text.into())).collect();
        fields.extend(self.late_milliseconds.map(|late| ("late_milliseconds".to_owned(), late.into())));
        fields
    }

    fn write(&self, chain: &str, record: &Record<'_>) {
        let Record { action, namespace, kind, name, connection_id, detail, error, destroyed: _ } = record;
        let Self { at, destroy_at, late_milliseconds, previous, position } = self;
        let (result, destroy_at) = (record.result(), destroy_at.as_deref());
        let (sequence, hash) = (position.sequence, marketrelay_audit::hex(&position.hash));
        tracing::info!(
            target: TARGET, action, at, chain, connection_id, destroy_at, detail, error, hash, kind, late_milliseconds,
            name, namespace, previous, result, sequence, "audit"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Arc,
    };

    use marketrelay_audit::{Options, Verifier};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_lines_of_the_log_are_a_chain_that_shows_a_missing_and_a_changed_one() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut last = Position::START;
            for number in 0..3 {
                let detail = format!("epoch.{number}");
                let record = Record {
                    action: "EpochKeyDestroyed",
                    namespace: "acme",
                    kind: "Secret",
                    name: "bol-keyring",
                    detail: &detail,
                    error: (number == 1).then_some("\"no\"\n"),
                    destroyed: Some((Timestamp::UNIX_EPOCH, 1.5)),
                    ..Record::default()
                };
                let linked = record.link("chain", last, Timestamp::now());
                linked.write("chain", &record);
                last = linked.position;
                tracing::info!("something else");
            }
        });
        let bytes = lines.0.lock().expect("a lock").clone();
        let text = String::from_utf8(bytes).expect("text");
        let verify = |text: &str| {
            let mut verifier = Verifier::new(Options { log: true, ..Options::default() });
            text.lines().try_for_each(|line| verifier.read(line.as_bytes()))?;
            verifier.finish()
        };
        assert_eq!(verify(&text).expect("a chain").chains[0].last, 3, "{text}");
        let without: Vec<_> = text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, l)| l).collect();
        assert!(verify(&without.join("\n")).expect_err("missing").to_string().contains("2 to 2"));
        let changed = text.replace("epoch.1", "epoch.9");
        assert!(verify(&changed).expect_err("changed").to_string().contains("record 2"));
    }
}
