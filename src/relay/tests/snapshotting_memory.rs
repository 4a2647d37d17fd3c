//! A snapshot costs the relay the same memory whatever the database holds.

use std::fs;

use jiff::Timestamp;
use marketrelay_api::backup::{Site, SnapshotRequest, paths::ROLE};
use marketrelay_marketplace::Order;
use marketrelay_snapshot::Unpacker;
use rand::RngExt;

use crate::common::{Authority, Mounts, Process, SOON, bol, identities, order, sandbox, with_recipients};

const ORDERS: u32 = 50_000;
const PAGE: u32 = 1_000;
/// Buffers, a window of 1 MiB for the compression and its tables.
const LIMIT_KIB: u64 = 12 * 1024;

/// Nothing of it can be compressed.
fn talkative(number: u32) -> Order {
    let mut order = order(&format!("A{number}"));
    let mut pii = order.pii.expose().clone();
    pii.notes = (0..1_000).map(|_| char::from(rand::rng().random_range(b'a'..=b'z'))).collect();
    order.pii = marketrelay_keyring::Pii::new(pii);
    order
}

async fn fill(mounts: &Mounts) {
    for page in 0..ORDERS / PAGE {
        mounts.ingest((page * PAGE..(page + 1) * PAGE).map(talkative).collect()).await;
    }
}

fn kibibytes(id: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).expect("the process");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the figure");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn fifty_thousand_orders_are_backed_up_in_the_memory_of_a_few() {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    mounts.config.retention.backup_retention_seconds = Some(30 * 86_400);
    // Nothing else is to be measured.
    mounts.config.suspend = true;
    mounts.write_config();
    mounts.mount_keyring(&with_recipients(&mounts.keyring(), &identities(Timestamp::now())));
    fill(&mounts).await;
    let authority = Authority::new();
    authority.mount(mounts.folder.path());
    let process = Process::start(mounts.folder.path(), "info");
    let address = process.address().await;
    let job = authority.http(Some(&authority.client(ROLE)));
    let url = format!("https://{address}/v1/snapshot");
    let request =
        SnapshotRequest { backup: "20261129T003250Z-5f0c1a2b".to_owned(), site: Site::OffSite, hold: None };
    let before = kibibytes(process.id(), "VmRSS:");
    let mut answer = job
        .post(url)
        .timeout(std::time::Duration::from_mins(5))
        .json(&request)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let (mut unpacker, mut bytes) = (Unpacker::default(), 0);
    while let Some(chunk) = answer.chunk().await.expect("bytes") {
        let mut chunk = &chunk[..];
        while !chunk.is_empty() {
            bytes += unpacker.take(&mut chunk).expect("a container").len();
        }
    }
    unpacker.finish().expect("a whole container");
    let grown = kibibytes(process.id(), "VmHWM:") - before;
    assert!(bytes > 40 << 20, "{bytes} bytes are too few to tell");
    println!("{ORDERS} orders, {} MiB: the relay grew by {grown} KiB from {before} KiB", bytes >> 20);
    assert!(grown < LIMIT_KIB, "{grown} KiB more than the {before} KiB of before");
    assert!(process.terminate(SOON).await.success());
}
