//! Finds the first record that was changed, is missing or is out of place.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;
use snafu::{OptionExt, Snafu, ensure};

use crate::{Fields, Kind, LOG_TARGET, Position, Statement, from_hex, hash, line};

/// What is known of the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of who signed, hex; without it, that of the first statement is believed.
    pub public_key: Option<String>,
    /// The file was exported from after this record on.
    pub after: u64,
    /// It is the operator's log: records are among other lines, and nobody signed.
    pub log: bool,
}

/// What is wrong, and with which record.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[snafu(display(
        "line {at} isn't an audit record as it is written, where record {expected} should be: it was changed"
    ))]
    Unreadable { at: u64, expected: u64 },
    #[snafu(display("record {sequence} (line {at}) was changed: its hash is another"))]
    Changed { at: u64, sequence: u64 },
    #[snafu(display(
        "records {from} to {to} are missing before line {at}: they are gone, or stand further down"
    ))]
    Missing { at: u64, from: u64, to: u64 },
    #[snafu(display("record {sequence} (line {at}) is out of place: record {expected} should be here"))]
    Misplaced { at: u64, sequence: u64, expected: u64 },
    #[snafu(display(
        "record {sequence} (line {at}) doesn't continue the one before: one of them was exchanged"
    ))]
    Unlinked { at: u64, sequence: u64 },
    #[snafu(display(
        "the file begins after record {after}, and nothing signed says that the ones before were pruned: give --after \
         {after} if it was exported so"
    ))]
    BeginsLate { after: u64 },
    #[snafu(display("line {at} ({kind:?} of record {sequence}) isn't signed with the key {public_key}"))]
    Signature { at: u64, kind: Kind, sequence: u64, public_key: String },
    #[snafu(display("records {from} to {to} are missing at the end: the signed head is of record {to}"))]
    CutOff { from: u64, to: u64 },
    #[snafu(display(
        "line {at} is a signed statement on another record {sequence} than the one that is here"
    ))]
    Contradicted { at: u64, sequence: u64 },
    #[snafu(display("there is no signed head after record {last}: the end may be missing"))]
    NoHead { last: u64 },
    #[snafu(display("there is no audit record in it"))]
    Empty,
}

/// A chain in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub chain: String,
    /// The file has what comes after this record.
    pub after: u64,
    /// The last record.
    pub last: u64,
    /// When the head was signed; `None` in the operator's log.
    pub head: Option<Timestamp>,
}

/// A file without fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Every chain.
    pub chains: Vec<Seen>,
    /// Who signed, hex; `None` in the operator's log.
    pub public_key: Option<String>,
    /// Whether that is the key that was asked for.
    pub is_known: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Seen { chain, after, last, head } in &self.chains {
            write!(f, "chain {chain}: {} records, {} to {last}, unbroken", last - after, after + 1)?;
            match head {
                Some(at) => writeln!(f, ", head signed at {at}")?,
                None => writeln!(f, "; nobody signed its end")?,
            }
        }
        match &self.public_key {
            Some(key) if self.is_known => write!(f, "signed with the key {key}"),
            Some(key) => write!(f, "signed with the key {key}: compare it with status.audit.publicKey"),
            None => Ok(()),
        }
    }
}

struct Chain {
    after: u64,
    position: Position,
    head: Option<Timestamp>,
}

/// Reads a file line by line, in bounded memory.
pub struct Verifier {
    options: Options,
    public_key: Option<String>,
    chains: BTreeMap<String, Chain>,
    current: String,
    at: u64,
}

impl Verifier {
    /// Of a file that hasn't been read yet.
    pub fn new(options: Options) -> Self {
        let public_key = options.public_key.clone();
        Self { options, public_key, chains: BTreeMap::new(), current: String::new(), at: 0 }
    }

    /// The next line, without its end.
    pub fn read(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.at += 1;
        if text.is_empty() {
            return Ok(());
        }
        let fields = if self.options.log {
            let Some(fields) = logged(text) else { return Ok(()) };
            fields
        } else {
            let unreadable = UnreadableSnafu { at: self.at, expected: self.expected() };
            exact(text).context(unreadable)?
        };
        if !self.options.log && fields.contains_key("signature") {
            let statement = statement(&fields);
            let unreadable = UnreadableSnafu { at: self.at, expected: self.expected() };
            return self.statement(&statement.context(unreadable)?);
        }
        self.record(&fields)
    }

    /// After the last line.
    pub fn finish(self) -> Result<Summary, Fault> {
        ensure!(!self.chains.is_empty(), EmptySnafu);
        let mut chains = Vec::new();
        for (chain, Chain { after, position, head }) in self.chains {
            ensure!(self.options.log || head.is_some(), NoHeadSnafu { last: position.sequence });
            chains.push(Seen { chain, after, last: position.sequence, head });
        }
        Ok(Summary { chains, public_key: self.public_key, is_known: self.options.public_key.is_some() })
    }

    /// The record that should come now.
    fn expected(&self) -> u64 {
        self.chains.get(&self.current).map_or(self.options.after, |chain| chain.position.sequence) + 1
    }

    fn record(&mut self, fields: &Fields) -> Result<(), Fault> {
        let at = self.at;
        let unreadable = UnreadableSnafu { at, expected: self.expected() };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let sequence = fields.get("sequence").and_then(Value::as_u64).filter(|sequence| *sequence > 0);
        let (Some(id), Some(sequence), Some(previous), Some(own)) = (
            text("chain"),
            sequence,
            text("previous").and_then(from_hex::<32>),
            text("hash").and_then(from_hex::<32>),
        ) else {
            return unreadable.fail();
        };
        ensure!(hash(fields) == own, ChangedSnafu { at, sequence });
        id.clone_into(&mut self.current);
        let Some(chain) = self.chains.get_mut(id) else {
            return self.begin(id.to_owned(), sequence, previous, own);
        };
        let expected = chain.position.sequence + 1;
        if sequence > expected {
            return MissingSnafu { at, from: expected, to: sequence - 1 }.fail();
        }
        ensure!(sequence == expected, MisplacedSnafu { at, sequence, expected });
        ensure!(previous == chain.position.hash, UnlinkedSnafu { at, sequence });
        chain.position = Position { sequence, hash: own };
        chain.head = None;
        Ok(())
    }

    /// A record with nothing before it.
    fn begin(&mut self, id: String, sequence: u64, previous: [u8; 32], own: [u8; 32]) -> Result<(), Fault> {
        let (at, after) = (self.at, sequence - 1);
        // Nobody signs where a log begins.
        let is_part = self.options.log && after == self.options.after;
        ensure!(sequence == 1 || is_part, BeginsLateSnafu { after });
        ensure!(is_part || previous == Position::START.hash, UnlinkedSnafu { at, sequence });
        let chain = Chain { after, position: Position { sequence, hash: own }, head: None };
        self.chains.insert(id, chain);
        Ok(())
    }

    fn statement(&mut self, said: &Statement) -> Result<(), Fault> {
        let (at, sequence) = (self.at, said.sequence);
        let key = self.public_key.get_or_insert_with(|| said.public_key.clone());
        let signature = SignatureSnafu { at, kind: said.kind, sequence, public_key: key.as_str() };
        ensure!(said.is_signed_by(key), signature);
        let contradicted = ContradictedSnafu { at, sequence };
        let position = said.position().context(contradicted)?;
        said.chain.clone_into(&mut self.current);
        let Some(chain) = self.chains.get_mut(&said.chain) else {
            let begins = match said.kind {
                Kind::Checkpoint => true,
                Kind::Start => sequence == self.options.after,
                Kind::Head => return CutOffSnafu { from: self.options.after + 1, to: sequence }.fail(),
            };
            ensure!(begins, BeginsLateSnafu { after: sequence });
            let chain = Chain { after: sequence, position, head: None };
            self.chains.insert(said.chain.clone(), chain);
            return Ok(());
        };
        let last = chain.position.sequence;
        if sequence > last {
            return CutOffSnafu { from: last + 1, to: sequence }.fail();
        }
        ensure!(position == chain.position, contradicted);
        if said.kind == Kind::Head {
            chain.head = Some(said.at);
        }
        Ok(())
    }
}

/// A line that is written exactly so.
fn exact(text: &[u8]) -> Option<Fields> {
    let text = std::str::from_utf8(text).ok()?;
    let fields: Fields = serde_json::from_str(text).ok()?;
    let is_flat = fields.values().all(|value| value.is_string() || value.is_u64() || value.is_i64());
    (is_flat && line(&fields) == text).then_some(fields)
}

fn statement(fields: &Fields) -> Option<Statement> {
    let said: Statement = serde_json::from_str(&line(fields)).ok()?;
    // Nothing in it that isn't signed.
    (said.line() == line(fields)).then_some(said)
}

/// A record in the operator's log; other lines are none.
fn logged(text: &[u8]) -> Option<Fields> {
    let mut log: Value = serde_json::from_slice(text).ok()?;
    let is_record = log.get("target").and_then(Value::as_str) == Some(LOG_TARGET);
    let mut fields: Fields =
        serde_json::from_value(log.get_mut("fields").filter(|_| is_record)?.take()).ok()?;
    fields.remove("message");
    // What somebody was shown of a hold is told in a pod's log too, and is no link of a chain.
    fields.contains_key("chain").then_some(fields)
}
