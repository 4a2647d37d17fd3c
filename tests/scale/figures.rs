//! What is printed of a run.

use std::{fmt::Write, time::Duration};

use crate::ledger::{Ledger, float};

/// A table.
pub fn of(ledger: &Ledger) -> String {
    let mut text = "| seconds | min | median | max |\n|---|---|---|---|\n".to_owned();
    let mut row = |name: &str, all: Vec<Duration>| {
        let mut all: Vec<_> = all.iter().map(Duration::as_secs_f64).collect();
        all.sort_by(f64::total_cmp);
        let Some((first, last)) = all.first().zip(all.last()) else { return };
        writeln!(text, "| {name} | {first:.1} | {:.1} | {last:.1} |", all[all.len() / 2]).expect("a text");
    };
    row("longest wait of a tenant at a site", ledger.turns.values().map(|turns| turns.longest).collect());
    row("a place is held", ledger.stores.values().flat_map(|store| store.held.clone()).collect());
    let mut turns: Vec<_> = ledger.turns.values().map(|turns| turns.ended).collect();
    turns.sort_unstable();
    for (address, store) in &ledger.stores {
        let Some((first, last)) = store.released.first().zip(store.released.last()) else { continue };
        let (count, minutes) = (store.released.len(), (*last - *first).as_secs_f64() / 60.0);
        let rate = float(count) / minutes;
        writeln!(
            text,
            "{address}: {count} Jobs released, {rate:.0} a minute, at most {} at work",
            store.highest
        )
        .expect("a text");
    }
    writeln!(
        text,
        "turns of a tenant at a site: {:?} to {:?}; {} Jobs ended, {} were dropped; at most {} waited, {} times two of a \
         CronJob's; {:.2} of the places were \
         taken while Jobs waited",
        turns.first(),
        turns.last(),
        ledger.succeeded.len(),
        ledger.dropped,
        ledger.most_waiting,
        ledger.doubled,
        ledger.used()
    )
    .expect("a text");
    text
}
