//! What is left of an order when its personal data's time has come. What these types have no field for can't be kept.

use jiff::{Timestamp, tz::TimeZone};
use marketrelay_marketplace::{Marketplace, Money, OrderLine, OrderStatus};
use rusqlite::{Connection, params};

use super::Result;

/// What an order and its lines share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shared {
    marketplace: Marketplace,
    country: Option<Code<2>>,
    month: Month,
    status: OrderStatus,
}

/// The order as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RemainingOrder {
    currency: Option<Code<3>>,
    total_minor: Option<i64>,
    tax_minor: Option<i64>,
}

/// One of its lines; nothing says which order it was of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RemainingLine {
    sku: String,
    quantity: u32,
    currency: Option<Code<3>>,
    unit_price_minor: Option<i64>,
    total_minor: Option<i64>,
    tax_minor: Option<i64>,
}

/// An order without identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remainder {
    shared: Shared,
    order: RemainingOrder,
    lines: Vec<RemainingLine>,
}

/// What a remainder is made of, as the order has it.
pub(super) struct Source<'a> {
    pub(super) marketplace: Marketplace,
    pub(super) country: Option<&'a str>,
    pub(super) placed_at: Timestamp,
    pub(super) status: OrderStatus,
    pub(super) total: Option<&'a Money>,
    pub(super) tax: Option<&'a Money>,
    pub(super) lines: &'a [OrderLine],
}

impl Remainder {
    pub(super) fn of(source: &Source<'_>) -> Self {
        let shared = Shared {
            marketplace: source.marketplace,
            country: source.country.and_then(Code::parse),
            month: Month::of(source.placed_at),
            status: source.status,
        };
        let (currency, [total_minor, tax_minor]) = amounts([source.total, source.tax]);
        let order = RemainingOrder { currency, total_minor, tax_minor };
        Self { shared, order, lines: source.lines.iter().map(RemainingLine::of).collect() }
    }

    /// Rows with random ids: in the order of their ids nothing is beside what it was stored with.
    pub(super) fn write(&self, connection: &Connection) -> Result<()> {
        let Shared { marketplace, country, month, status } = self.shared;
        let (marketplace, month, status) = (marketplace.as_str(), month.to_string(), status.as_str());
        let country = country.as_ref().map(Code::as_str);
        let RemainingOrder { currency, total_minor, tax_minor } = &self.order;
        connection
            .prepare_cached("INSERT INTO anonymised_orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
            rand::random::<i64>(),
            marketplace,
            country,
            month,
            status,
            currency.as_ref().map(Code::as_str),
            total_minor,
            tax_minor
        ])?;
        let mut statement = connection.prepare_cached(
            "INSERT INTO anonymised_lines VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        for line in &self.lines {
            statement.execute(params![
                rand::random::<i64>(),
                marketplace,
                country,
                month,
                status,
                line.sku,
                line.quantity,
                line.currency.as_ref().map(Code::as_str),
                line.unit_price_minor,
                line.total_minor,
                line.tax_minor
            ])?;
        }
        Ok(())
    }
}

impl RemainingLine {
    fn of(line: &OrderLine) -> Self {
        let amounts = amounts([line.total.as_ref(), line.tax.as_ref(), line.unit_price.as_ref()]);
        let (currency, [total_minor, tax_minor, unit_price_minor]) = amounts;
        Self {
            sku: line.sku.clone(),
            quantity: line.quantity,
            currency,
            unit_price_minor,
            total_minor,
            tax_minor,
        }
    }
}

/// The amounts in the currency of the first of them; one in another currency has no place.
fn amounts<const N: usize>(money: [Option<&Money>; N]) -> (Option<Code<3>>, [Option<i64>; N]) {
    let code = |money: &Money| Code::parse(&money.currency);
    let currency = money.iter().flatten().find_map(|money| code(money));
    let same = |money: &&Money| currency.is_some() && code(money) == currency;
    (currency, money.map(|money| money.filter(same).map(|money| money.minor)))
}

/// An ISO code of capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code<const N: usize>([u8; N]);

impl<const N: usize> Code<N> {
    fn parse(text: &str) -> Option<Self> {
        let letters: [u8; N] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A month in UTC, `2026-02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Month {
    year: i16,
    month: i8,
}

impl Month {
    fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        Self { year: date.year().max(0), month: date.month() }
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn euros(minor: i64) -> Money {
        Money { currency: "EUR".to_owned(), minor }
    }

    fn line() -> OrderLine {
        OrderLine {
            sku: "SKU-1".to_owned(),
            title: Some("Kettle for Zoë".to_owned()),
            product_id: Some("8710000000001".to_owned()),
            quantity: 2,
            quantity_shipped: 1,
            quantity_cancelled: 1,
            unit_price: Some(euros(1_250)),
            total: Some(euros(2_500)),
            tax: Some(Money { currency: "NOK".to_owned(), minor: 7 }),
        }
    }

    fn remainder(status: OrderStatus, country: Option<&str>, total: &Money) -> Remainder {
        Remainder::of(&Source {
            marketplace: Marketplace::Bol,
            country,
            placed_at: "2026-02-28T23:59:59.999Z".parse().expect("a time"),
            status,
            total: Some(total),
            tax: Some(&euros(868)),
            lines: &[line()],
        })
    }

    #[test]
    fn of_every_status_the_same_fields_remain() {
        for status in [
            OrderStatus::Pending,
            OrderStatus::Unshipped,
            OrderStatus::PartiallyShipped,
            OrderStatus::Shipped,
            OrderStatus::Cancelled,
            OrderStatus::Refunded,
            OrderStatus::Unknown,
        ] {
            let left = remainder(status, Some("NL"), &euros(5_000));
            assert_eq!(left.shared.status, status);
            assert_eq!(left.shared.month.to_string(), "2026-02");
            assert_eq!(left.shared.country.as_ref().map(Code::as_str), Some("NL"));
            assert_eq!((left.order.total_minor, left.order.tax_minor), (Some(5_000), Some(868)));
            assert_eq!((left.lines[0].sku.as_str(), left.lines[0].quantity), ("SKU-1", 2));
            assert_eq!(
                (left.lines[0].total_minor, left.lines[0].unit_price_minor),
                (Some(2_500), Some(1_250))
            );
        }
    }

    #[test]
    fn free_text_has_no_place_in_a_code() {
        let odd = Money { currency: "Zoë Müller".to_owned(), minor: 5 };
        let left = remainder(OrderStatus::Shipped, Some("Zoë's house"), &odd);
        assert_eq!(left.shared.country, None);
        assert_eq!((left.order.total_minor, left.order.tax_minor), (None, Some(868)));
        assert!(!format!("{left:?}").contains("Zo"), "{left:?}");
    }

    #[test]
    fn an_amount_in_another_currency_than_its_line_is_left_out() {
        assert_eq!(remainder(OrderStatus::Shipped, None, &euros(1)).lines[0].tax_minor, None);
    }
}
