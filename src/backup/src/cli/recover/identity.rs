use std::{fs, path::Path};

use marketrelay_escrow::Identity;
use snafu::{ResultExt, Whatever, ensure_whatever, whatever};
use zeroize::Zeroizing;

/// Reads a file as `age-keygen` writes them: lines with identities, comments. Nothing of it is repeated in an error.
pub fn read(path: &Path) -> Result<Vec<Identity>, Whatever> {
    let shown = path.display();
    let text = fs::read(path).with_whatever_context(|error| format!("can't read {shown}: {error}"))?;
    let text = Zeroizing::new(text);
    if text.starts_with(b"age-encryption.org/") || text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
        whatever!("{shown} is itself encrypted: decrypt it first (age --decrypt)");
    }
    let mut identities = Vec::new();
    let lines = std::str::from_utf8(&text).unwrap_or_default().lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.parse() {
            Ok(identity) => identities.push(identity),
            Err(_) => whatever!("{shown} has a line that is no identity, AGE-SECRET-KEY-1…"),
        }
    }
    ensure_whatever!(!identities.is_empty(), "{shown} holds no identity, AGE-SECRET-KEY-1…");
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    fn of(text: &str) -> Result<usize, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        read(file.path()).map(|identities| identities.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn several_identities_are_read_and_what_is_none_is_not_repeated() {
        let [one, other] = [(); 2].map(|()| Identity::generate().to_string());
        let (one, other) = (one.expose_secret(), other.expose_secret());
        assert_eq!(of(&format!("# created: now\n# public key: age1…\n{one}\n\n{other}\n")), Ok(2));
        for (text, word) in [
            (String::new(), "no identity"),
            ("# a comment".to_owned(), "no identity"),
            (format!("{one}\n{}", &other[..40]), "is no identity"),
            ("age-encryption.org/v1\n-> scrypt".to_owned(), "age --decrypt"),
        ] {
            let error = of(&text).expect_err(word);
            assert!(error.contains(word) && !error.contains(&other[20..40]), "{error}");
        }
    }
}
