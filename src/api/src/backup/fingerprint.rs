//! What escrowed keys are known by: the operator makes it, a Job reports it.

/// Hex digits of each half.
const DIGITS: usize = 64;

/// Of everything that is escrowed of a connection, and after a dot of what opens and seals alone: hex SHA-256 both. It isn't
/// secret.
#[must_use]
pub fn fingerprint(whole: &str, keys: &str) -> String {
    format!("{whole}.{keys}")
}

/// The halves of a fingerprint; `None`: it isn't one.
#[must_use]
pub fn halves(fingerprint: &str) -> Option<(&str, &str)> {
    let is_hash = |half: &str| half.len() == DIGITS && half.bytes().all(|byte| byte.is_ascii_hexdigit());
    fingerprint.split_once('.').filter(|(whole, keys)| is_hash(whole) && is_hash(keys))
}

#[cfg(test)]
mod tests {
    use super::{fingerprint, halves};

    #[test]
    fn a_fingerprint_is_two_hashes() {
        let [whole, keys] = ["a1".repeat(32), "b2".repeat(32)];
        assert_eq!(halves(&fingerprint(&whole, &keys)), Some((whole.as_str(), keys.as_str())));
        for other in
            ["", ".", &whole, "a1.b2", &fingerprint(&whole, ""), &fingerprint(&whole, &"x".repeat(64))]
        {
            assert_eq!(halves(other), None, "{other}");
        }
    }
}
