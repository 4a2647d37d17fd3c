//! Orders that no marketplace made.

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Pii;
use marketrelay_marketplace::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
    ShipmentPii,
};
use proptest::{collection::vec, option, prelude::*};

fn euros(minor: i64) -> Money {
    Money { currency: "EUR".to_owned(), minor }
}

/// Who bought it, and where it goes.
fn person(number: &str) -> OrderPii {
    let address = Address {
        name: "Zoë Müller".to_owned(),
        lines: vec!["Königstraße 7".to_owned()],
        postal_code: "10115".to_owned(),
        city: "Berlin".to_owned(),
        country: "DE".to_owned(),
        phone: "+49 30 5550100".to_owned(),
        email: "zoe@buyer.example".to_owned(),
        ..Address::default()
    };
    let buyer = Buyer { name: address.name.clone(), email: address.email.clone(), ..Buyer::default() };
    let line = |id: &str| LinePii { id: format!("{number}-{id}"), ..LinePii::default() };
    OrderPii {
        number: number.to_owned(),
        buyer,
        ship_to: Some(address.clone()),
        bill_to: Some(address),
        lines: vec![line("1"), line("2")],
        shipments: Vec::new(),
        notes: "ring twice".to_owned(),
    }
}

fn line(sku: &str) -> OrderLine {
    OrderLine {
        sku: sku.to_owned(),
        title: Some("Kettle, 1.7 l".to_owned()),
        product_id: Some("8710000000001".to_owned()),
        quantity: 2,
        quantity_shipped: 0,
        quantity_cancelled: 0,
        unit_price: Some(euros(1_250)),
        total: Some(euros(2_500)),
        tax: Some(euros(434)),
    }
}

/// An order of two lines that was placed an hour ago.
pub fn order(number: &str) -> Order {
    let placed_at = Timestamp::now() - SignedDuration::from_hours(1);
    Order {
        marketplace: Marketplace::Bol,
        pii: Pii::new(person(number)),
        placed_at,
        updated_at: placed_at,
        first_shipped_at: None,
        status: OrderStatus::Unshipped,
        marketplace_status: "OPEN".to_owned(),
        fulfilment: Fulfilment::Merchant,
        sales_channel: Some("NL".to_owned()),
        country: Some("DE".to_owned()),
        total: Some(euros(5_000)),
        tax: Some(euros(868)),
        lines: vec![line("SKU-1"), line("SKU-2")],
    }
}

fn any_money() -> impl Strategy<Value = Option<Money>> {
    option::of(("[A-Z]{3}", any::<i64>()).prop_map(|(currency, minor)| Money { currency, minor }))
}

fn any_address() -> impl Strategy<Value = Address> {
    (vec(any::<String>(), 0..3), any::<[String; 8]>()).prop_map(|(lines, texts)| {
        let [city, company, country, email, name, phone, postal_code, region] = texts;
        Address { city, company, country, email, lines, name, phone, postal_code, region }
    })
}

fn any_line() -> impl Strategy<Value = (OrderLine, LinePii)> {
    let texts = any::<[String; 4]>();
    let optional = option::of(any::<String>());
    (texts, optional, any::<[u32; 3]>(), [any_money(), any_money(), any_money()]).prop_map(
        |([sku, id, gift_message, customization_url], title, [quantity, shipped, cancelled], money)| {
            let [unit_price, total, tax] = money;
            let line = OrderLine {
                product_id: title.clone(),
                sku,
                title,
                quantity,
                quantity_shipped: shipped,
                quantity_cancelled: cancelled,
                unit_price,
                total,
                tax,
            };
            (line, LinePii { id, gift_message, customization_url })
        },
    )
}

fn any_pii() -> impl Strategy<Value = OrderPii> {
    let shipments = vec(any::<[String; 3]>(), 0..3);
    (any::<[String; 8]>(), option::of(any_address()), option::of(any_address()), shipments).prop_map(
        |(texts, ship_to, bill_to, shipments)| {
            let [number, notes, company, email, name, purchase_order, tax_id, username] = texts;
            let buyer = Buyer { company, email, name, purchase_order, tax_id, username };
            let parcel =
                |[carrier, id, tracking_number]: [String; 3]| ShipmentPii { carrier, id, tracking_number };
            let shipments = shipments.into_iter().map(parcel).collect();
            OrderPii { number, buyer, ship_to, bill_to, lines: Vec::new(), shipments, notes }
        },
    )
}

/// Whatever a marketplace could tell.
pub fn any_order() -> impl Strategy<Value = Order> {
    let statuses = [
        OrderStatus::Pending,
        OrderStatus::Unshipped,
        OrderStatus::PartiallyShipped,
        OrderStatus::Shipped,
        OrderStatus::Cancelled,
        OrderStatus::Refunded,
        OrderStatus::Unknown,
    ];
    let marketplaces = [Marketplace::Amazon, Marketplace::Ebay, Marketplace::Bol];
    let fulfilments = [Fulfilment::Merchant, Fulfilment::Marketplace, Fulfilment::Unknown];
    let words = (prop::sample::select(statuses.to_vec()), prop::sample::select(marketplaces.to_vec()));
    let words = (words, prop::sample::select(fulfilments.to_vec()), any::<String>());
    let texts = option::of(any::<[String; 2]>());
    let times = (0_i64..4_102_444_800_000, option::of(0_i64..4_102_444_800_000));
    (any_pii(), vec(any_line(), 0..4), words, texts, times, [any_money(), any_money()])
        .prop_map(|(pii, lines, words, texts, (placed, shipped), [total, tax])| {
            let ((status, marketplace), fulfilment, marketplace_status) = words;
            let (lines, identified) = lines.into_iter().unzip();
            let time = |at| Timestamp::from_millisecond(at).expect("in range");
            let [sales_channel, country] = texts.map_or([None, None], |texts| texts.map(Some));
            Order {
                marketplace,
                pii: Pii::new(OrderPii { lines: identified, ..pii }),
                placed_at: time(placed),
                updated_at: time(placed),
                first_shipped_at: shipped.map(time),
                status,
                marketplace_status,
                fulfilment,
                sales_channel,
                country,
                total,
                tax,
                lines,
            }
        })
        .no_shrink()
}
