//! A volume without room for the restored database: the Job says so, and what is there stays.

use std::fs;

use marketrelay_api::{backup::Site, relay::paths::DATA};

use crate::{small::Small, tenant::Tenant};

const ORDERS: u32 = 2_000;

async fn collect(tenant: &Tenant) {
    let numbers: Vec<_> = (0..ORDERS).map(|number| format!("A{number}")).collect();
    tenant.collect(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// KiB of the volume's database.
fn kibibytes(tenant: &Tenant) -> u64 {
    fs::metadata(tenant.file("marketrelay.db")).expect("a database").len() / 1024
}

/// A lost volume whose backup needs so many KiB.
async fn lost() -> (Tenant, u64) {
    let tenant = Tenant::start().await;
    collect(&tenant).await;
    tenant.back_up(Site::OnSite).await;
    let needed = kibibytes(&tenant);
    tenant.lose_volume();
    (tenant, needed)
}

#[tokio::test]
async fn an_empty_volume_that_is_too_small_stays_empty_and_is_filled_once_it_has_grown() {
    let (tenant, needed) = lost().await;
    let volume = Small::mount(tenant.world.path(DATA), needed / 2);
    for _ in 0..2 {
        let (reason, message) = tenant.refused().await;
        assert_eq!(reason, "StorageFull");
        assert!(message.contains("spec.storage.size"), "{message}");
        assert!(tenant.files().is_empty(), "{:?}", tenant.names());
    }
    volume.resize(needed * 2);
    assert_eq!(tenant.restore().await.orders, u64::from(ORDERS));
    assert_eq!(tenant.names(), ["marketrelay.db"]);
}

#[tokio::test]
async fn a_database_that_was_to_be_replaced_is_untouched_if_there_is_no_room_for_the_new_one_beside_it() {
    let mut tenant = Tenant::start().await;
    collect(&tenant).await;
    tenant.back_up(Site::OnSite).await;
    let (needed, database) =
        (kibibytes(&tenant), fs::read(tenant.file("marketrelay.db")).expect("a database"));
    let volume = Small::mount(tenant.world.path(DATA), needed * 3 / 2);
    fs::write(tenant.file("marketrelay.db"), &database).expect("written");
    tenant.config.replace = true;
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "StorageFull");
    assert!(message.contains("spec.storage.size"), "{message}");
    assert!(tenant.files().get("marketrelay.db") == Some(&database), "it has changed");
    assert_eq!(tenant.names(), ["marketrelay.db"]);
    volume.resize(needed * 3);
    assert_eq!(tenant.restore().await.orders, u64::from(ORDERS));
    assert_eq!(tenant.names(), ["marketrelay.db", "replaced.db"]);
}

#[tokio::test]
async fn a_drill_whose_scratch_volume_is_full_says_which_and_leaves_nothing_on_it() {
    let (tenant, needed) = lost().await;
    let volume = Small::mount(tenant.world.path(DATA), needed / 2);
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "StorageFull");
    for part in ["emptyDir", "spec.storage.size"] {
        assert!(message.contains(part), "{message}");
    }
    volume.resize(needed * 2);
    assert_eq!(tenant.drill().await.opened, u64::from(ORDERS));
}
