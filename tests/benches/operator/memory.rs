//! Resident memory of the operator with no, 200 and 1,000 connections.

use std::time::Duration;

use crate::plane::Plane;

/// After the last child exists: statuses are written, and every connection is looked at twice.
const SETTLING: Duration = Duration::from_secs(45);

pub async fn run() {
    let plane = Plane::start().await;
    plane.namespace("memory");
    let operator = plane.operator("memory").await;
    tokio::time::sleep(SETTLING).await;
    let mut figures = vec![(0, operator.resident())];
    for count in [200_u32, 1_000] {
        let names: Vec<_> =
            (figures[figures.len() - 1].0..count).map(|number| format!("c{number}")).collect();
        plane.connect("memory", &names).await;
        plane.built("memory", count as usize + 1).await;
        tokio::time::sleep(SETTLING).await;
        figures.push((count, operator.resident()));
    }
    println!("| connections | resident MiB |\n|---|---|");
    for (count, kib) in &figures {
        println!("| {count} | {:.1} |", mib(*kib));
    }
    for (count, kib) in &figures {
        println!("operator_rss_mib_{count} {:.1}", mib(*kib));
    }
    let (first, last) = (figures[1], figures[2]);
    let slope = (kib(last.1) - kib(first.1)) / f64::from(last.0 - first.0);
    println!("operator_rss_kib_per_connection {slope:.1}");
}

fn kib(figure: u64) -> f64 {
    f64::from(u32::try_from(figure).expect("less than 4 TiB"))
}

fn mib(figure: u64) -> f64 {
    kib(figure) / 1024.0
}
