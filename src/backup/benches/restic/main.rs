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
use round::{Bench, Round, Taken};
use tokio::signal::unix::{SignalKind, signal};

const MB: u64 = 1_000_000;

/// A row of a round's figures.
type Figure = (&'static str, fn(&Round) -> f64);

const FIGURES: [Figure; 11] = [
    ("backup, s", |round| round.ours.backup.seconds),
    ("restic backup, s", |round| round.restic.backup.seconds),
    ("restore, s", |round| round.ours.restore.seconds),
    ("restic restore, s", |round| round.restic.restore.seconds),
    ("backup, peak MiB of the Job", |round| round.ours.backup.peak),
    ("backup, peak MiB of the relay", |round| round.relay_peak),
    ("restic backup, peak MiB", |round| round.restic.backup.peak),
    ("restore, peak MiB", |round| round.ours.restore.peak),
    ("restic restore, peak MiB", |round| round.restic.restore.peak),
    ("stored MB", |round| megabytes(&round.ours)),
    ("restic, stored MB", |round| megabytes(&round.restic)),
];

fn megabytes(taken: &Taken) -> f64 {
    let thousands = u32::try_from(taken.bytes / 1_000).expect("less than 4 TB");
    f64::from(thousands) / 1_000.0
}

fn print(title: &str, rounds: &[Round]) {
    println!("\n| {title} | min | median | max |\n|---|---|---|---|");
    for (name, figure) in FIGURES {
        let [min, median, max] = spread(rounds.iter().map(figure));
        println!("| {name} | {min:.2} | {median:.2} | {max:.2} |");
    }
}

fn print_ratios(size: &str, rounds: &[Round]) {
    let median = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure))[1];
    let most = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure))[2];
    for (name, value) in [
        (
            "backup_seconds_ratio",
            median(|round| round.ours.backup.seconds) / median(|round| round.restic.backup.seconds),
        ),
        (
            "restore_seconds_ratio",
            median(|round| round.ours.restore.seconds) / median(|round| round.restic.restore.seconds),
        ),
        ("backup_peak_mib", most(|round| round.ours.backup.peak)),
        ("restore_peak_mib", most(|round| round.ours.restore.peak)),
        ("relay_peak_mib_during_snapshot", most(|round| round.relay_peak)),
    ] {
        println!("{name}_{size} {value:.2}");
    }
}

async fn measure(size: &str, bytes: u64, count: u32) {
    let mut bench = Bench::start().await;
    bench.shop.fill(bytes).await;
    let orders = bench.shop.count;
    let mut rounds = bench.rounds(count).await;
    print(&format!("{} MB, {orders} orders, rounds: {count}", bytes / MB), &rounds);
    print_ratios(size, &rounds);
    bench.shop.grow().await;
    let last = rounds.pop().expect("a round");
    let later = bench.later(last).await;
    let more = bench.shop.count - orders;
    print(&format!("{} MB, a later backup with {more} orders more", bytes / MB), &[later]);
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
