//! Backups and restores against restic's of the same database's file, at 100 MB and at 1 GB, on the same S3 server. Run by
//! `cargo xtask bench`, which builds what is measured as it is published.

#[path = "../../tests/authority.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod authority;
mod measured;
mod orders;
mod programs;
mod restic;
mod round;
#[path = "../../tests/s3.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod s3;
mod shop;
#[path = "../../tests/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use measured::spread;
use round::{Backups, Bench, Round};
use tokio::signal::unix::{SignalKind, signal};

const MB: u64 = 1_000_000;

/// A row's name, and its figure.
type Row<T> = (&'static str, fn(&T) -> f64);

const BACKUPS: [Row<Backups>; 7] = [
    ("backup, s", |backups| backups.ours.measured.seconds),
    ("restic backup, s", |backups| backups.restic.measured.seconds),
    ("backup, peak MiB of the Job", |backups| backups.ours.measured.peak),
    ("backup, peak MiB of the relay", |backups| backups.relay_peak),
    ("restic backup, peak MiB", |backups| backups.restic.measured.peak),
    ("backup, MB in the store", |backups| megabytes(backups.ours.bytes)),
    ("restic backup, MB in the store", |backups| megabytes(backups.restic.bytes)),
];

const RESTORES: [Row<Round>; 4] = [
    ("restore, s", |round| round.restore.seconds),
    ("restic restore, s", |round| round.restic_restore.seconds),
    ("restore, peak MiB", |round| round.restore.peak),
    ("restic restore, peak MiB", |round| round.restic_restore.peak),
];

fn megabytes(bytes: u64) -> f64 {
    let thousands = u32::try_from(bytes / 1_000).expect("less than 4 TB");
    f64::from(thousands) / 1_000.0
}

fn print<T>(rows: &[Row<T>], of: &[&T]) {
    for (name, figure) in rows {
        let [min, median, max] = spread(of.iter().map(|one| figure(one)));
        println!("| {name} | {min:.2} | {median:.2} | {max:.2} |");
    }
}

fn print_head(title: &str) {
    println!("\n| {title} | min | median | max |\n|---|---|---|---|");
}

fn print_ratios(size: &str, rounds: &[Round]) {
    let median = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure))[1];
    let most = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure))[2];
    let restic = median(|round| round.backups.restic.measured.seconds);
    for (name, value) in [
        ("backup_seconds_ratio", median(|round| round.backups.ours.measured.seconds) / restic),
        (
            "restore_seconds_ratio",
            median(|round| round.restore.seconds) / median(|round| round.restic_restore.seconds),
        ),
        ("backup_peak_mib", most(|round| round.backups.ours.measured.peak)),
        ("restore_peak_mib", most(|round| round.restore.peak)),
        ("relay_peak_mib_during_snapshot", most(|round| round.backups.relay_peak)),
    ] {
        println!("{name}_{size} {value:.2}");
    }
}

async fn measure(size: &str, bytes: u64, count: u32) {
    let mut bench = Bench::start().await;
    bench.shop.fill(bytes).await;
    let orders = bench.shop.count;
    let rounds = bench.rounds(count).await;
    print_head(&format!("{} MB, {orders} orders, rounds: {count}", bytes / MB));
    print(&BACKUPS, &rounds.iter().map(|round| &round.backups).collect::<Vec<_>>());
    print(&RESTORES, &rounds.iter().collect::<Vec<_>>());
    print_ratios(size, &rounds);
    let last = rounds.last().expect("a round");
    let later = bench.later(last).await;
    print_head(&format!("{} MB, later without another order", bytes / MB));
    print(&BACKUPS, &[&later]);
    bench.shop.grow().await;
    let later = bench.later(last).await;
    print_head(&format!("{} MB, later with {} orders more", bytes / MB, bench.shop.count - orders));
    print(&BACKUPS, &[&later]);
}

/// Those that are named, without a name all.
async fn measure_wanted() {
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (size, bytes, rounds) in [("100_mb", 100 * MB, 3), ("1_gb", 1_000 * MB, 1)] {
        if names.is_empty() || names.iter().any(|name| name == size) {
            measure(size, bytes, rounds).await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut terminated = signal(SignalKind::terminate()).expect("signals");
    // What was started ends with what is dropped.
    tokio::select! {
        () = measure_wanted() => ExitCode::SUCCESS,
        _ = terminated.recv() => ExitCode::FAILURE,
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}
