//! `marketrelay-relay audit`: reads the log beside a running relay, and verifies what was exported, wherever it is.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use jiff::Timestamp;
use marketrelay_api::relay::paths;
use marketrelay_audit::{Options, Signer, Summary, Verifier, from_hex};
use marketrelay_keyring::Keyring;
use snafu::{OptionExt, ResultExt, Whatever};

use super::export;
use crate::{
    keys,
    mounts::{self, at},
    store::open::reader,
};

/// What can be done with an audit log.
#[derive(Subcommand)]
pub enum Command {
    /// Write the records as JSON lines, with the signed head at their end. Changes nothing.
    Export {
        /// Only the records after this one.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Say whether a record was changed, is missing or is out of place, and which.
    Verify {
        /// Of who signed, as status.audit.publicKey of the connection has it.
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        public_key: Option<String>,
        /// The file was exported with this --after.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// The file is the operator's log.
        #[arg(long)]
        log: bool,
        /// The file; - is the standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

impl Command {
    /// Does it, below `root`.
    pub fn run(self, root: &Path) -> Result<(), Whatever> {
        match self {
            Self::Export { after } => write(root, after, &mut io::stdout().lock()),
            Self::Verify { public_key, after, log, file } => {
                let summary = verify(&file, Options { public_key, after, log })?;
                writeln!(io::stdout(), "{summary}").whatever_context("can't write")
            }
        }
    }
}

/// Before it is compared with anything: what is mistyped must not look like a forgery.
fn public_key(text: &str) -> Result<String, String> {
    match from_hex::<32>(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "a public key has 64 lowercase hex digits, this has {} characters: kubectl get mconn NAME -o \
             jsonpath='{{.status.audit.publicKey}}'",
            text.chars().count()
        )),
    }
}

fn write(root: &Path, after: u64, to: &mut impl Write) -> Result<(), Whatever> {
    let mount = |path: &str| {
        let folder = at(root, path);
        mounts::entries(&folder)
            .with_whatever_context(|error| format!("can't read {}: {error}", folder.display()))
    };
    let key = keys::secret_key(&mount(paths::DATABASE_KEY)?, "database-key")
        .ok()
        .whatever_context("there is no database key")?;
    let entries = mount(paths::KEYRING)?;
    let keyring =
        Keyring::from_entries(entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
            .whatever_context("the keyring can't be used")?;
    let seed = keyring.audit_key().whatever_context("the keyring has no key for the audit log yet")?;
    let signer = Signer::new(seed.expose()).whatever_context("the keyring can't be used")?;
    let path = at(root, paths::DATA).join(paths::DATABASE);
    let connection = reader(&path, &key).whatever_context("the database can't be opened")?;
    let export = export::begin(&connection, &signer, after, Timestamp::now());
    let mut export = export
        .whatever_context("the audit log can't be read")?
        .with_whatever_context(|| format!("there is no record {after}"))?;
    loop {
        let lines = export.next(&connection).whatever_context("the audit log can't be read")?;
        if lines.is_empty() {
            return to.flush().whatever_context("can't write");
        }
        to.write_all(lines.as_bytes()).whatever_context("can't write")?;
    }
}

fn verify(file: &Path, options: Options) -> Result<Summary, Whatever> {
    let mut input: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file);
        Box::new(BufReader::new(
            opened.with_whatever_context(|error| format!("can't read {}: {error}", file.display()))?,
        ))
    };
    let (mut verifier, mut line) = (Verifier::new(options), Vec::new());
    while input.read_until(b'\n', &mut line).whatever_context("can't read")? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        verifier.read(text).with_whatever_context(|fault| fault.to_string())?;
        line.clear();
    }
    verifier.finish().with_whatever_context(|fault| fault.to_string())
}
