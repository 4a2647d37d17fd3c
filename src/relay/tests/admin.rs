//! The admin API: mutual TLS, a role for each path, no plaintext.

use std::time::Duration;

use marketrelay_api::relay::{Affected, RelayStatus, paths};
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{Authority, Mounts, Process, bol, eventually, sandbox};

const SOON: Duration = Duration::from_secs(30);

struct Admin {
    authority: Authority,
    mounts: Mounts,
    process: Process,
    address: String,
    _sandbox: marketrelay_sandbox::Sandbox,
}

async fn admin() -> Admin {
    let sandbox = sandbox(3).await;
    let (authority, mounts) = (Authority::new(), Mounts::new(&sandbox, bol()));
    authority.mount(mounts.folder.path());
    let process = mounts.spawn();
    let address = process.address().await;
    Admin { authority, mounts, process, address, _sandbox: sandbox }
}

impl Admin {
    async fn get(&self, http: &Client, path: &str) -> Option<u16> {
        let answer = http.get(format!("https://{}{path}", self.address)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    async fn answers(&self, http: &Client) -> [Option<u16>; 5] {
        let mut answers = [None; 5];
        for (answer, path) in
            answers.iter_mut().zip(["/livez", "/readyz", "/metrics", "/v1/status", "/v1/other"])
        {
            *answer = self.get(http, path).await;
        }
        answers
    }

    async fn end(self) {
        assert!(self.process.terminate(SOON).await.success());
    }
}

#[tokio::test]
async fn each_path_answers_who_may_ask_it() {
    let admin = admin().await;
    let client = |role: &str| admin.authority.http(Some(&admin.authority.client(role)));
    let [ok, forbidden, missing] = [200, 403, 404].map(Some);
    let nobody = admin.authority.http(None);
    assert_eq!(admin.answers(&nobody).await, [ok, ok, forbidden, forbidden, missing]);
    let backup = client("urn:marketrelay:role:backup");
    assert_eq!(admin.answers(&backup).await, [ok, ok, forbidden, forbidden, missing]);
    let notices = client(marketrelay_api::notices::ROLE);
    assert_eq!(admin.answers(&notices).await, [ok, ok, forbidden, forbidden, missing]);
    assert_eq!(admin.answers(&client(paths::METRICS_ROLE)).await, [ok, ok, ok, forbidden, missing]);
    assert_eq!(admin.answers(&client(paths::OPERATOR_ROLE)).await, [ok, ok, ok, ok, missing]);
    admin.end().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_gets_no_answer_at_all() {
    let admin = admin().await;
    let stranger = Authority::new().client(paths::OPERATOR_ROLE);
    assert_eq!(admin.answers(&admin.authority.http(Some(&stranger))).await, [None; 5]);
    // A server's certificate is none of a client either.
    let server = admin.authority.server();
    assert_eq!(admin.answers(&admin.authority.http(Some(&server))).await, [None; 5]);
    admin.end().await;
}

#[tokio::test]
async fn the_status_says_how_the_relay_does() {
    let admin = admin().await;
    let operator = admin.authority.http(Some(&admin.authority.client(paths::OPERATOR_ROLE)));
    let url = format!("https://{}/v1/status", admin.address);
    let status = eventually("three orders delivered and the listing read to its end", SOON, || async {
        let status: RelayStatus = operator.get(&url).send().await.ok()?.json().await.ok()?;
        let delivered = status.orders == 3 && status.backlog == 0 && status.delivering.last_success.is_some();
        (delivered && status.known_until.is_some()).then_some(status)
    })
    .await;
    assert_eq!(status.connection_id, crate::common::ID);
    assert_eq!((status.with_pii, status.collecting.reason), (3, None));
    assert!(status.next_deadline.is_some() && status.oldest_pii.is_some());
    admin.end().await;
}

#[tokio::test]
async fn whom_a_shorter_retention_concerns_is_told_to_the_operator_alone() {
    let admin = admin().await;
    let client = |role: &str| admin.authority.http(Some(&admin.authority.client(role)));
    let operator = client(paths::OPERATOR_ROLE);
    let path = |anonymize: i64, delete: i64| {
        format!("/v1/affected?anonymizeAfterSeconds={anonymize}&deleteAfterShipmentSeconds={delete}")
    };
    for http in [admin.authority.http(None), client(paths::METRICS_ROLE)] {
        assert_eq!(admin.get(&http, &path(60, 60)).await, Some(403));
    }
    let too_little = "/v1/affected?anonymizeAfterSeconds=60".to_owned();
    for bad in [path(0, 60), path(60, -1), too_little, path(60, 60) + "&keyEpochSeconds=1"] {
        assert_eq!(admin.get(&operator, &bad).await, Some(400), "{bad}");
    }
    let count = async |path: String| {
        let answer = operator.get(format!("https://{}{path}", admin.address)).send().await.ok()?;
        Some(answer.json::<Affected>().await.ok()?.orders)
    };
    eventually("all three are affected", SOON, || async {
        (count(path(60, 60)).await == Some(3)).then_some(())
    })
    .await;
    let longest = 100_000 * 86_400;
    assert_eq!(count(path(longest, longest)).await, Some(0));
    admin.end().await;
}

/// What the server says first to these bytes.
async fn first_answer(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("an answer or the end");
    answer.truncate(read.unwrap_or(0));
    answer
}

#[tokio::test]
async fn plaintext_is_refused() {
    let admin = admin().await;
    let answer = first_answer(&admin.address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.is_empty() || answer[0] == ALERT, "{answer:?}");
    admin.end().await;
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A hello that offers `version` at most, with suites that were common then and with ones of today.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    let suites = [0xc013_u16, 0xc014, 0x002f, 0x0035, 0xc02b, 0xc02f, 0xc02c, 0xc030];
    body.extend(u16::try_from(suites.len() * 2).expect("short").to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    let extensions = [
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1],
        &[0, 23, 0, 0],
    ]
    .concat();
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).expect("short");
    let mut hello = vec![HANDSHAKE, 3, 1];
    hello.extend((length + 4).to_be_bytes());
    hello.extend([1, 0]);
    hello.extend(length.to_be_bytes());
    hello.extend(body);
    hello
}

#[tokio::test]
async fn tls_below_1_2_is_refused() {
    let admin = admin().await;
    let today = first_answer(&admin.address, &client_hello([3, 3])).await;
    assert_eq!(today[0], HANDSHAKE, "the same hello with TLS 1.2 is answered: {today:?}");
    for old in [[3, 0], [3, 1], [3, 2]] {
        let answer = first_answer(&admin.address, &client_hello(old)).await;
        // protocol_version (70), or nothing.
        assert!(answer.is_empty() || (answer[0] == ALERT && answer[5..7] == [2, 70]), "{answer:?}");
    }
    admin.end().await;
}

#[tokio::test]
async fn a_replaced_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let admin = admin().await;
    let renewed = Authority::new();
    let (old, new) = (
        admin.authority.http(Some(&admin.authority.client(paths::OPERATOR_ROLE))),
        renewed.http(Some(&renewed.client(paths::OPERATOR_ROLE))),
    );
    assert_eq!(admin.get(&old, "/v1/status").await, Some(200));
    assert_eq!(admin.get(&new, "/v1/status").await, None);
    renewed.mount(admin.mounts.folder.path());
    let served = || async { (admin.get(&new, "/v1/status").await == Some(200)).then_some(()) };
    eventually("the new certificate", SOON, served).await;
    assert_eq!(admin.get(&old, "/v1/status").await, None);
    admin.mounts.replace(&format!("{}/tls.key", paths::TLS), "no key");
    let noticed = || async { admin.process.log().contains("isn't a PEM key").then_some(()) };
    eventually("the broken key is noticed", SOON, noticed).await;
    assert_eq!(admin.get(&new, "/v1/status").await, Some(200), "the one before stays");
    admin.end().await;
}
