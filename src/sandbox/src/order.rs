//! Orders as no marketplace in particular sees them, made from a seed.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::Marketplace;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    New,
    PartiallyShipped,
    Shipped,
    Cancelled,
    Refunded,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) sku: String,
    pub(crate) product: String,
    pub(crate) title: &'static str,
    pub(crate) quantity: u32,
    /// Minor units.
    pub(crate) unit_price: i64,
}

/// Fields that a test may choose.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Person {
    pub(crate) first_name: String,
    pub(crate) surname: String,
    pub(crate) email: String,
    pub(crate) street: String,
    pub(crate) house_number: String,
    pub(crate) postal_code: String,
    pub(crate) city: String,
    pub(crate) country: String,
    pub(crate) phone: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: String,
    pub(crate) placed: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) shipped: Option<Timestamp>,
    pub(crate) state: State,
    /// Instead of the marketplace's word for the state.
    pub(crate) odd_status: Option<String>,
    pub(crate) person: Person,
    pub(crate) currency: &'static str,
    pub(crate) lines: Vec<Line>,
    /// What becomes of it when it is left alone: how long after placing, in order.
    plan: VecDeque<(SignedDuration, State)>,
}

const PEOPLE: [(&str, &str, &str, &str, &str, &str); 6] = [
    ("Zoë", "Müller-Lüdenscheidt", "Königstraße", "10115", "Berlin", "DE"),
    ("Jan", "de Vries", "Keizersgracht", "1015CJ", "Amsterdam", "NL"),
    ("Łucja", "Świątek", "ul. Długa", "80-831", "Gdańsk", "PL"),
    ("Aoife", "O'Brien", "Grafton Street", "D02 H2A4", "Dublin", "IE"),
    ("Jean-Baptiste", "Lefèvre", "Rue de la République", "69001", "Lyon", "FR"),
    ("María José", "Núñez Ibáñez", "Calle de Alcalá", "28014", "Madrid", "ES"),
];
const PRODUCTS: [&str; 5] =
    ["Kettle, 1.7 l", "Bike light \"Lumen\"", "Äpfel-Schäler", "Desk lamp", "Tea, 100 bags"];

/// The `index`th order of a seed, placed at `placed`.
pub(crate) fn generate(marketplace: Marketplace, seed: u64, index: u64, placed: Timestamp) -> Order {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9).wrapping_add(index));
    let (first, last, street, postal_code, city, country) = PEOPLE[rng.random_range(0..PEOPLE.len())];
    let unique = seed * 1_000_000 + index;
    let number = match marketplace {
        Marketplace::Amazon => {
            format!("{:03}-{:07}-{:07}", 300 + seed % 600, unique / 10_000_000, unique % 10_000_000)
        }
        Marketplace::Ebay => format!("{:02}-{:05}-{:05}", 10 + seed % 80, unique / 100_000, unique % 100_000),
        Marketplace::Bol => format!("A{unique:09}"),
    };
    let lines = (0..rng.random_range(1..4u32)).map(|n| line(&mut rng, unique, n)).collect();
    Order {
        placed,
        updated: placed,
        shipped: None,
        state: State::New,
        odd_status: None,
        person: Person {
            first_name: first.into(),
            surname: last.into(),
            email: format!("{unique}@buyer.example"),
            street: street.into(),
            house_number: rng.random_range(1..300u32).to_string(),
            postal_code: postal_code.into(),
            city: city.into(),
            country: country.into(),
            phone: format!("+31 6 {:08}", unique % 100_000_000),
        },
        currency: if marketplace == Marketplace::Amazon && unique.is_multiple_of(7) { "JPY" } else { "EUR" },
        lines,
        number,
        plan: plan(&mut rng),
    }
}

/// Most orders ship, some in two parcels; a few are cancelled, a few refunded.
fn plan(rng: &mut StdRng) -> VecDeque<(SignedDuration, State)> {
    let first = SignedDuration::from_millis(rng.random_range(20_000..60_000));
    let second = first + SignedDuration::from_millis(rng.random_range(20_000..60_000));
    match rng.random_range(0..10u32) {
        0..=5 => VecDeque::from([(first, State::Shipped)]),
        6 => VecDeque::from([(first, State::PartiallyShipped), (second, State::Shipped)]),
        7..=8 => VecDeque::from([(first, State::Cancelled)]),
        _ => VecDeque::from([(first, State::Shipped), (second, State::Refunded)]),
    }
}

fn line(rng: &mut StdRng, unique: u64, n: u32) -> Line {
    Line {
        id: format!("{unique}{n}"),
        sku: format!("SKU-{:04}", rng.random_range(0..500u32)),
        product: format!("{:013}", 8_710_000_000_000 + rng.random_range(0..9_999_999u64)),
        title: PRODUCTS[rng.random_range(0..PRODUCTS.len())],
        quantity: rng.random_range(1..4),
        unit_price: rng.random_range(100..20_000),
    }
}

impl Order {
    fn set(&mut self, state: State, now: Timestamp) {
        if matches!(state, State::Shipped | State::PartiallyShipped) && self.shipped.is_none() {
            self.shipped = Some(now);
        }
        self.state = state;
        self.updated = now;
    }

    /// The buyer at eBay.
    pub(crate) fn username(&self) -> String {
        format!("buyer-{}", self.lines.first().map_or("0", |line| line.id.as_str()))
    }

    /// What the control API decides; the order isn't left alone any more.
    pub(crate) fn decide(&mut self, state: State, now: Timestamp) {
        self.plan.clear();
        self.set(state, now);
    }

    /// What the plan has for it up to now, each at its own time, whenever that is looked at.
    pub(crate) fn age(&mut self, now: Timestamp) {
        while let Some((after, state)) =
            self.plan.front().copied().filter(|(after, _)| self.placed + *after <= now)
        {
            self.plan.pop_front();
            self.set(state, self.placed + after);
        }
    }

    /// Minor units.
    pub(crate) fn total(&self) -> i64 {
        self.lines.iter().map(|line| line.unit_price * i64::from(line.quantity)).sum()
    }

    /// Units of a line that have shipped.
    pub(crate) fn quantity_shipped(&self, index: usize) -> u32 {
        match self.state {
            State::Shipped | State::Refunded => self.lines[index].quantity,
            State::PartiallyShipped if index == 0 => 1,
            _ => 0,
        }
    }

    /// Units of a line that were cancelled.
    pub(crate) fn quantity_cancelled(&self, index: usize) -> u32 {
        if self.state == State::Cancelled { self.lines[index].quantity } else { 0 }
    }

    /// An amount as the APIs write it.
    pub(crate) fn amount(&self, minor: i64) -> String {
        if self.currency == "JPY" { minor.to_string() } else { format!("{}.{:02}", minor / 100, minor % 100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_orders() {
        for marketplace in [Marketplace::Amazon, Marketplace::Ebay, Marketplace::Bol] {
            let make = |seed| format!("{:?}", generate(marketplace, seed, 5, Timestamp::UNIX_EPOCH));
            assert_eq!(make(1), make(1));
            assert_ne!(make(1), make(2));
        }
    }

    #[test]
    fn the_first_shipment_stays() {
        let mut order = generate(Marketplace::Bol, 1, 1, Timestamp::UNIX_EPOCH);
        let later = |secs| Timestamp::from_second(secs).expect("in range");
        order.set(State::PartiallyShipped, later(10));
        order.set(State::Shipped, later(20));
        assert_eq!((order.shipped, order.updated), (Some(later(10)), later(20)));
    }
}
