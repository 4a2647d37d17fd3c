//! Amounts of CPU, memory and storage, as Kubernetes writes them.

/// A quantity in thousandths, such as `500m`, `1Gi` or `2`; `None` if it isn't one or is finer than a thousandth.
pub fn quantity(text: &str) -> Option<i128> {
    const SUFFIXES: [(&str, i128); 13] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    if let Some(number) = text.strip_suffix('m') {
        return whole(number);
    }
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() { 0 } else { whole(fraction)? };
    let scaled = whole(integer)?.checked_mul(scale)?.checked_add(fraction)?;
    let thousandths = scaled.checked_mul(factor)?.checked_mul(1_000)?;
    (thousandths % scale == 0).then_some(thousandths / scale)
}

fn whole(text: &str) -> Option<i128> {
    let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_compared_by_value() {
        for (a, b) in
            [("1Gi", "1024Mi"), ("1", "1000m"), ("1.5Gi", "1536Mi"), ("0.25", "250m"), ("2k", "2000")]
        {
            assert_eq!(quantity(a).expect(a), quantity(b).expect(b));
        }
        for text in ["", "Gi", "1.2.3", "-1", "one", "1e3", "0.0001m"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC*") {
            let _ = quantity(&text);
        }

        #[test]
        fn more_bytes_are_a_larger_quantity(a in 1u32..100_000, b in 1u32..100_000) {
            let of = |n: u32| quantity(&format!("{n}Mi")).expect("a quantity");
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }
    }
}
