//! What a relay without orders holds in memory after it has polled a few times.

use std::{fs, process::ExitCode, time::Duration};

#[path = "../tests/common/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests need more of it")]
mod common;

use common::{Authority, CLIENT, Control, Mounts, Process, bol, eventually, sandbox};
use marketrelay_api::relay::paths;

const POLLS: u64 = 5;
const LIMIT: Duration = Duration::from_mins(1);

/// A figure of a process in KiB.
fn kibibytes(id: u32, file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/{file}")).expect("the process");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the figure");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let sandbox = sandbox(0).await;
    let (control, authority) = (Control::new(&sandbox), Authority::new());
    let mounts = Mounts::new(&sandbox, bol());
    authority.mount(mounts.folder.path());
    let relay = Process::start(mounts.folder.path(), "info");
    let address = relay.address().await;
    let operator = authority.http(Some(&authority.client(paths::OPERATOR_ROLE)));
    // As in a cluster: probed and scraped beside its polls.
    for path in ["/livez", "/readyz", "/metrics", "/v1/status"] {
        let answer = operator.get(format!("https://{address}{path}")).send().await.expect("an answer");
        assert!(answer.status().is_success());
    }
    let calls = control.calls("bol").await;
    let polled = || async { (control.calls("bol").await >= calls + POLLS).then_some(()) };
    eventually("polls", LIMIT, polled).await;
    let id = relay.id();
    let (resident, share) = (kibibytes(id, "status", "VmRSS:"), kibibytes(id, "smaps_rollup", "Pss:"));
    let private = kibibytes(id, "status", "RssAnon:");
    assert!(relay.terminate(LIMIT).await.success());
    assert!(control.numbers(CLIENT, jiff::Timestamp::MAX).await.is_empty());
    println!(
        "idle relay in MiB: resident {:.1}, proportional share {:.1}, its own data {:.1}",
        resident / 1024.0,
        share / 1024.0,
        private / 1024.0
    );
    println!("relay_idle_rss_mib {:.1}", resident / 1024.0);
    ExitCode::SUCCESS
}
