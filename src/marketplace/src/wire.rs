//! What the wire types of the three marketplaces share.

use serde::{Deserialize, Deserializer};
use snafu::Snafu;

use crate::{CollectError, Money, money::MoneyError};

/// For fields whose `null` means the same as their absence.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Why an order can't be converted: the field and the problem, without values.
#[derive(Debug, Snafu)]
#[snafu(display("field {field}: {source}"))]
pub(crate) struct Inexact {
    field: &'static str,
    source: MoneyError,
}

pub(crate) trait InField<T> {
    fn in_field(self, field: &'static str) -> Result<T, Inexact>;
}

impl<T> InField<T> for Result<T, MoneyError> {
    fn in_field(self, field: &'static str) -> Result<T, Inexact> {
        self.map_err(|source| Inexact { field, source })
    }
}

impl Inexact {
    pub(crate) fn of(&self, call: &'static str) -> CollectError {
        CollectError::Protocol { call, detail: self.to_string() }
    }
}

/// A price of one that is finer than the currency's smallest unit is no price that is charged: none is told.
pub(crate) fn exact(price: Result<Money, MoneyError>) -> Option<Result<Money, MoneyError>> {
    (price != Err(MoneyError::TooFine)).then_some(price)
}

/// Quantities that the contract gives as 32 bits; what is outside of them is no quantity.
pub(crate) fn quantity(value: Option<i64>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

/// The parts that say something.
pub(crate) fn lines<const N: usize>(parts: [String; N]) -> Vec<String> {
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}
