//! From a Secret's plaintext to digests. Pure; the plaintext is wiped when it is dropped.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use marketrelay_api::{Reason, SubjectDigest, labels, relay::Erasure};
use marketrelay_keyring::{DigestKey, Pii};

use crate::problem::Problem;

const ORDER_NUMBERS: &str = "orderNumbers";
const EMAILS: &str = "emails";
const USERNAMES: &str = "usernames";
/// As the relays know them.
const MARKETPLACES: [&str; 3] = ["amazon", "ebay", "bol"];
/// Lines in all: each becomes a digest per marketplace.
const MOST_LINES: usize = Erasure::MOST / MARKETPLACES.len();

/// What a Secret says, or why it can't be used.
pub(super) type Plaintext = Result<Lines, Problem>;

/// The lines of a Secret.
pub(super) struct Lines {
    orders: Vec<Pii<String>>,
    buyers: Vec<Pii<String>>,
}

/// Reads the entries. Whatever else is in a Secret shows that it is meant for something else: then it isn't used, and
/// isn't deleted.
pub(super) fn read(secret: &Secret) -> Plaintext {
    let name = secret.name_any();
    let invalid = |why: String| {
        let message = format!(
            "spec.subject.secretRef: Secret {name} {why}; it needs {ORDER_NUMBERS:?}, {EMAILS:?} or {USERNAMES:?} with one \
             value per line, {MOST_LINES} in all, and nothing else. It was neither used nor deleted"
        );
        Err(Problem::new(Reason::SecretInvalid, message))
    };
    if secret.labels().get(labels::MANAGED_BY).is_some_and(|manager| manager == labels::OPERATOR) {
        return invalid("is the operator's own".to_owned());
    }
    let entries = || secret.data.iter().flatten();
    let mut names = entries().map(|(entry, _)| entry.as_str());
    if let Some(other) = names.find(|entry| ![ORDER_NUMBERS, EMAILS, USERNAMES].contains(entry)) {
        return invalid(other_entry(other));
    }
    let mut lines = Lines { orders: Vec::new(), buyers: Vec::new() };
    for (entry, bytes) in entries() {
        let Ok(text) = std::str::from_utf8(&bytes.0) else { return invalid("isn't UTF-8".to_owned()) };
        let values = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let list = if entry == ORDER_NUMBERS { &mut lines.orders } else { &mut lines.buyers };
        list.extend(values.map(|value| Pii::new(value.to_owned())));
    }
    match lines.orders.len() + lines.buyers.len() {
        0 => Err(Problem::new(
            Reason::SecretIncomplete,
            format!(
                "spec.subject.secretRef: Secret {name} is empty: it needs {ORDER_NUMBERS:?}, {EMAILS:?} or {USERNAMES:?} \
                 with one value per line (kubectl edit secret {name})"
            ),
        )),
        1..=MOST_LINES => Ok(lines),
        _ => invalid("has too many lines: make several requests".to_owned()),
    }
}

/// A name that isn't a word could be an order's number or a person's.
fn other_entry(name: &str) -> String {
    let is_word = name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let which = if is_word { format!(" ({name:?})") } else { String::new() };
    format!(
        "has an entry of another name{which}; kubectl apply keeps entries that it hasn't made, so delete and create it"
    )
}

impl Lines {
    /// Of every line at every marketplace: which one somebody bought at isn't asked.
    pub(super) fn digests(&self, key: &DigestKey) -> Vec<SubjectDigest> {
        let mut digests = BTreeSet::new();
        for marketplace in MARKETPLACES {
            let order = |number: &Pii<String>| *key.order(marketplace, number.expose()).as_bytes();
            let buyer = |identity: &Pii<String>| *key.buyer(marketplace, identity.expose()).as_bytes();
            digests.extend(self.orders.iter().map(|number| SubjectDigest::Order(order(number))));
            digests.extend(self.buyers.iter().map(|identity| SubjectDigest::Buyer(buyer(identity))));
        }
        digests.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use marketrelay_keyring::SecretKey;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some("case".to_owned());
        let data =
            entries.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        secret.data = Some(data.collect());
        secret
    }

    #[test]
    fn each_line_is_looked_for_at_every_marketplace_as_the_relays_digest_it() {
        let key = DigestKey::new(&SecretKey::from([1; 32]));
        let lines = read(&secret(&[
            ("orderNumbers", " A1 \n\n"),
            ("emails", "Zoe@Example.com\r\n"),
            ("usernames", "zoe"),
        ]));
        let digests = lines.map_err(|problem| problem.message).expect("lines").digests(&key);
        assert_eq!(digests.len(), 9);
        for marketplace in MARKETPLACES {
            let order = SubjectDigest::Order(*key.order(marketplace, "A1").as_bytes());
            assert!(digests.contains(&order), "{marketplace}");
            for identity in ["zoe@example.com", "zoe"] {
                let buyer = SubjectDigest::Buyer(*key.buyer(marketplace, identity).as_bytes());
                assert!(digests.contains(&buyer), "{marketplace} {identity}");
            }
        }
    }

    #[test]
    fn a_secret_that_is_meant_for_something_else_is_refused_and_not_shown() {
        let many = "zoe\n".repeat(MOST_LINES + 1);
        for (entries, reason, part) in [
            (&[][..], Reason::SecretIncomplete, "is empty"),
            (&[("emails", " \n")], Reason::SecretIncomplete, "is empty"),
            (&[("emails", "zoe"), ("email", "zoe")], Reason::SecretInvalid, "another name (\"email\")"),
            (&[("emails", "a"), ("zoe-order-1", "a")], Reason::SecretInvalid, "another name;"),
            (&[("emails", many.as_str())], Reason::SecretInvalid, "too many lines"),
        ] {
            let problem = read(&secret(entries)).err().expect("refused");
            assert_eq!(problem.reason, reason);
            assert!(
                problem.message.contains(part) && !problem.message.contains("zoe"),
                "{}",
                problem.message
            );
        }
        let mut ours = secret(&[("emails", "zoe")]);
        ours.labels_mut().insert(labels::MANAGED_BY.to_owned(), labels::OPERATOR.to_owned());
        assert!(read(&ours).is_err(), "keys are never consumed");
    }
}
