//! Decimal amounts to minor units: exact, by digits, without floating point.

use serde::Deserialize;
use serde_json::value::RawValue;
use snafu::{OptionExt, Snafu, ensure};

use crate::Money;

/// A decimal as the marketplace wrote it, as a JSON string or number; its digits are never rounded.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Decimal(Box<RawValue>);

impl Decimal {
    fn text(&self) -> &str {
        self.0.get().trim_matches('"')
    }

    pub(crate) fn money(&self, currency: &str) -> Result<Money, MoneyError> {
        match parse(self.text(), currency) {
            Err(MoneyError::TooFine) if !self.0.get().starts_with('"') => {
                without_noise(self.text(), currency).context(TooFineSnafu)
            }
            other => other,
        }
    }
}

/// Why an amount isn't taken. The amount itself isn't told.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub(crate) enum MoneyError {
    #[snafu(display("the amount isn't a decimal number"))]
    NotDecimal,
    #[snafu(display("the amount is finer than the currency's smallest unit"))]
    TooFine,
    #[snafu(display("the amount is too large"))]
    TooLarge,
    #[snafu(display("the currency isn't an ISO 4217 code of three capital letters"))]
    Currency,
    #[snafu(display("amounts of different currencies are to be added"))]
    Mixed,
}

/// Digits after the decimal point, by ISO 4217.
fn exponent(currency: &str) -> i64 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// A JSON number that went through binary floating point, such as 12.990000000000002, means its nearest amount; one
/// that is finer on purpose, such as 12.345, means none.
fn without_noise(text: &str, currency: &str) -> Option<Money> {
    let scale = 10_f64.powi(i32::try_from(exponent(currency)).ok()?);
    let scaled = text.parse::<f64>().ok()? * scale;
    let nearest = scaled.round();
    let noise = (scaled - nearest).abs() < 1e-6 && nearest.abs() < 1e12;
    let minor = noise.then(|| format!("{nearest:.0}").parse().ok())??;
    Some(Money { currency: currency.to_owned(), minor })
}

/// `12.34`, `-5`, `1.2e3`; zeros beyond the smallest unit are fine, other digits there are refused.
pub(crate) fn parse(text: &str, currency: &str) -> Result<Money, MoneyError> {
    ensure!(currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()), CurrencySnafu);
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, power) = match rest.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i8>().ok().context(NotDecimalSnafu)?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    ensure!(digits().next().is_some() && digits().all(|b| b.is_ascii_digit()), NotDecimalSnafu);
    let point =
        i64::try_from(whole.len()).ok().context(TooLargeSnafu)? + i64::from(power) + exponent(currency);
    let mut minor: i64 = 0;
    for (at, digit) in (0..).zip(digits()) {
        let digit = i64::from(digit - b'0');
        if at < point {
            minor = minor.checked_mul(10).and_then(|m| m.checked_sub(digit)).context(TooLargeSnafu)?;
        } else {
            ensure!(digit == 0, TooFineSnafu);
        }
    }
    let count = i64::try_from(digits().count()).ok().context(TooLargeSnafu)?;
    for _ in count..point {
        minor = minor.checked_mul(10).context(TooLargeSnafu)?;
    }
    let minor = if negative { minor } else { minor.checked_neg().context(TooLargeSnafu)? };
    Ok(Money { currency: currency.to_owned(), minor })
}

/// The sum, or `None` of nothing.
pub(crate) fn sum(
    amounts: impl IntoIterator<Item = Result<Money, MoneyError>>,
) -> Result<Option<Money>, MoneyError> {
    let mut total: Option<Money> = None;
    for amount in amounts {
        let amount = amount?;
        total = Some(match total {
            None => amount,
            Some(sum) => {
                ensure!(sum.currency == amount.currency, MixedSnafu);
                Money { minor: sum.minor.checked_add(amount.minor).context(TooLargeSnafu)?, ..sum }
            }
        });
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minor(text: &str, currency: &str) -> Result<i64, MoneyError> {
        parse(text, currency).map(|money| money.minor)
    }

    #[test]
    fn amounts_become_minor_units_of_their_currency() {
        for (text, currency, expected) in [
            ("12.34", "EUR", 1234),
            ("12.3", "EUR", 1230),
            ("12", "EUR", 1200),
            (".5", "EUR", 50),
            ("-0.01", "USD", -1),
            ("1234", "JPY", 1234),
            ("1234.00", "JPY", 1234),
            ("1.234", "KWD", 1234),
            ("1.2e3", "JPY", 1200),
            ("12340e-3", "EUR", 1234),
            ("-92233720368547758.08", "EUR", i64::MIN),
        ] {
            assert_eq!(minor(text, currency), Ok(expected), "{text} {currency}");
        }
    }

    #[test]
    fn what_isn_t_an_exact_amount_is_refused() {
        use MoneyError::{Currency, NotDecimal, TooFine, TooLarge};
        for (text, currency, expected) in [
            ("", "EUR", NotDecimal),
            (".", "EUR", NotDecimal),
            ("-", "EUR", NotDecimal),
            ("1,5", "EUR", NotDecimal),
            ("+1", "EUR", NotDecimal),
            ("NaN", "EUR", NotDecimal),
            ("12.345", "EUR", TooFine),
            ("0.5", "JPY", TooFine),
            ("92233720368547758.08", "EUR", TooLarge),
            ("1e99", "EUR", TooLarge),
            ("1", "eur", Currency),
            ("1", "", Currency),
        ] {
            assert_eq!(minor(text, currency), Err(expected), "{text} {currency}");
        }
    }

    #[test]
    fn a_json_number_keeps_its_digits() {
        let number: Decimal = serde_json::from_str("90071992547409.93").expect("a number");
        assert_eq!(number.money("EUR").map(|m| m.minor), Ok(9_007_199_254_740_993));
        let text: Decimal = serde_json::from_str("\"0.10\"").expect("a string");
        assert_eq!(text.money("EUR").map(|m| m.minor), Ok(10));
    }

    #[test]
    fn binary_noise_of_a_json_number_is_no_finer_amount() {
        let money = |text: &str, currency| {
            let number: Decimal = serde_json::from_str(text).expect("JSON");
            number.money(currency).map(|m| m.minor)
        };
        assert_eq!(money("12.990000000000002", "EUR"), Ok(1299));
        assert_eq!(money("0.30000000000000004", "EUR"), Ok(30));
        assert_eq!(money("-12.989999999999998", "EUR"), Ok(-1299));
        assert_eq!(money("1500.0000000000002", "JPY"), Ok(1500));
        assert_eq!(money("12.345", "EUR"), Err(MoneyError::TooFine));
        assert_eq!(money("0.5", "JPY"), Err(MoneyError::TooFine));
        assert_eq!(
            money("\"12.990000000000002\"", "EUR"),
            Err(MoneyError::TooFine),
            "a text is meant as it is"
        );
    }

    #[test]
    fn different_currencies_are_never_added() {
        assert_eq!(sum([parse("1", "EUR"), parse("1", "USD")]), Err(MoneyError::Mixed));
        assert_eq!(sum([]), Ok(None));
        assert_eq!(
            sum([parse("1", "EUR"), parse("2", "EUR")]),
            Ok(Some(Money { currency: "EUR".into(), minor: 300 }))
        );
    }

    proptest! {
        #[test]
        fn every_amount_in_cents_is_read_back(cents in any::<i64>()) {
            let sign = if cents < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
            prop_assert_eq!(minor(&text, "EUR"), Ok(cents));
        }

        #[test]
        fn no_text_is_a_crash(text in ".*", currency in ".{0,4}") {
            let _ = parse(&text, &currency);
        }

        #[test]
        fn no_number_like_text_is_a_crash(text in "-?[0-9]{0,30}\\.?[0-9]{0,30}(e-?[0-9]{0,4})?") {
            let _ = parse(&text, "EUR");
        }
    }
}
