//! Orders as a shop has them: of the last four weeks, most of them shipped the day after.

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Pii;
use marketrelay_marketplace::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
    ShipmentPii,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const GOODS: [&str; 8] =
    ["Kettle, 1.7 l", "Toaster", "Hand mixer", "Water filter", "Desk lamp", "Garden hose", "Scales", "Tray"];
const KINDS: [&str; 6] =
    ["brushed steel", "white", "with display", "for two", "recycled plastic", "second edition"];
const GIVEN: [&str; 8] = ["Jan", "Sanne", "Noah", "Emma", "Zoë", "Lotte", "Mohammed", "Anna"];
const FAMILY: [&str; 8] =
    ["de Vries", "Jansen", "van den Berg", "Bakker", "Visser", "Smit", "Meijer", "Mulder"];
const STREETS: [&str; 6] =
    ["Keizersgracht", "Dorpsstraat", "Molenweg", "Stationsplein", "Kerkstraat", "Julianalaan"];
const CITIES: [&str; 6] = ["Amsterdam", "Utrecht", "Zwolle", "Antwerpen", "Groningen", "Gent"];
const WEEKS: i64 = 4 * 7 * 24 * 3_600;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Makes one after the other.
pub struct Orders {
    random: StdRng,
    made: u32,
    now: Timestamp,
}

impl Orders {
    pub fn new(now: Timestamp) -> Self {
        Self { random: StdRng::seed_from_u64(7), made: 0, now }
    }

    pub fn page(&mut self, orders: u32) -> Vec<Order> {
        (0..orders).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Order {
        self.made += 1;
        let number = format!("A{:09}", self.made);
        let lines: Vec<_> = (0..self.random.random_range(1..=3)).map(|_| self.line()).collect();
        let placed_at = self.now - SignedDuration::from_secs(self.random.random_range(60..WEEKS));
        let is_shipped = placed_at + DAY < self.now && self.random.random_ratio(19, 20);
        let total: i64 = lines.iter().filter_map(|line| Some(line.total.as_ref()?.minor)).sum();
        Order {
            marketplace: Marketplace::Bol,
            pii: Pii::new(self.person(number, lines.len(), is_shipped)),
            placed_at,
            updated_at: placed_at + if is_shipped { DAY } else { SignedDuration::ZERO },
            first_shipped_at: is_shipped.then_some(placed_at + DAY),
            status: if is_shipped { OrderStatus::Shipped } else { OrderStatus::Unshipped },
            marketplace_status: if is_shipped { "SHIPPED" } else { "OPEN" }.to_owned(),
            fulfilment: Fulfilment::Merchant,
            sales_channel: Some("NL".to_owned()),
            country: Some("NL".to_owned()),
            total: Some(euros(total)),
            tax: Some(euros(total * 21 / 121)),
            lines,
        }
    }

    /// Of one of 5,000 products.
    fn line(&mut self) -> OrderLine {
        let product = self.random.random_range(0..5_000_usize);
        let (good, kind) = (GOODS[product % GOODS.len()], KINDS[product % KINDS.len()]);
        let quantity = self.random.random_range(1..=3_u32);
        let price = 495 + 5 * i64::try_from(product).expect("small");
        let total = price * i64::from(quantity);
        OrderLine {
            sku: format!("SKU-{product:06}"),
            title: Some(format!("{good}, {kind}, model {}", product / 8)),
            product_id: Some(format!("8712345{product:06}")),
            quantity,
            quantity_shipped: 0,
            quantity_cancelled: 0,
            unit_price: Some(euros(price)),
            total: Some(euros(total)),
            tax: Some(euros(total * 21 / 121)),
        }
    }

    fn person(&mut self, number: String, lines: usize, is_shipped: bool) -> OrderPii {
        let (given, family) = (self.one_of(&GIVEN), self.one_of(&FAMILY));
        let address = Address {
            name: format!("{given} {family}"),
            lines: vec![format!("{} {}", self.one_of(&STREETS), self.random.random_range(1..400))],
            postal_code: format!("{:04} AB", self.random.random_range(1_000..9_999)),
            city: self.one_of(&CITIES).to_owned(),
            country: "NL".to_owned(),
            phone: format!("+31 6 {:08}", self.random.random_range(0..100_000_000)),
            email: format!("{:024x}@buyer.example", self.random.random::<u64>()),
            ..Address::default()
        };
        let buyer = Buyer { name: address.name.clone(), email: address.email.clone(), ..Buyer::default() };
        let line = |line: usize| LinePii { id: format!("{number}{line}"), ..LinePii::default() };
        let shipment = || ShipmentPii {
            carrier: "TNT".to_owned(),
            id: format!("{number}S"),
            tracking_number: format!("3S{:016}", self.random.random_range(0..u64::MAX / 2_000)),
        };
        OrderPii {
            buyer,
            ship_to: Some(address.clone()),
            bill_to: Some(address),
            lines: (0..lines).map(line).collect(),
            shipments: is_shipped.then(shipment).into_iter().collect(),
            notes: String::new(),
            number,
        }
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.random.random_range(0..texts.len())]
    }
}

fn euros(minor: i64) -> Money {
    Money { currency: "EUR".to_owned(), minor }
}
