use std::time::{Duration, Instant};

use jiff::SignedDuration;
use marketrelay_marketplace::{CollectError, Collector, ebay::Ebay};
use serde_json::{Value, json};

use crate::server::{Call, Reply, Server, collect, credentials, failed, first_error, http, now, ok};

fn client(server: &Server) -> Ebay {
    Ebay::new(http(), server.endpoints.clone(), credentials())
}

fn empty() -> Reply {
    ok(json!({"orders": [], "total": 0}))
}

fn token(name: &str, seconds: u32) -> Value {
    json!({"access_token": name, "token_type": "bearer", "expires_in": seconds})
}

fn refused() -> Reply {
    Reply(400, Vec::new(), json!({"error": "invalid_grant"}))
}

async fn ask(client: &mut Ebay) -> Result<(), CollectError> {
    let cursor = client.start(now() - SignedDuration::from_mins(30));
    client.page(&cursor, now()).await.map(|_| ())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let mut issued: Vec<Instant> = Vec::new();
    let server = Server::with_tokens(move |call| {
        if call.is_token() {
            issued.push(Instant::now());
            return ok(token(&format!("{}", issued.len()), 1));
        }
        let n: usize = call.header("authorization").trim_start_matches("Bearer ").parse().expect("a token");
        if issued[n - 1].elapsed() < Duration::from_millis(900) { empty() } else { failed(401) }
    })
    .await;
    let (mut client, start) = (client(&server), Instant::now());
    while server.calls().iter().filter(|call| call.is_token()).count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(20), "the token isn't renewed");
        ask(&mut client).await.expect("a page");
    }
    assert!(start.elapsed() > Duration::from_millis(1500), "a token is kept while it is good");
    let (tokens, questions): (Vec<Call>, Vec<Call>) = server.calls().into_iter().partition(Call::is_token);
    let used: Vec<_> = questions.iter().map(|call| call.header("authorization").to_owned()).collect();
    assert!(used.is_sorted(), "no call is repeated with another token, as a refused one would be");
    assert_eq!(tokens.len(), 3);
}

#[tokio::test]
async fn an_expired_token_is_forgotten_and_the_call_repeated_once() {
    let mut issued = 0;
    let server = Server::with_tokens(move |call| {
        if call.is_token() {
            issued += 1;
            return ok(token(&issued.to_string(), 3600));
        }
        if call.header("authorization") == "Bearer 2" { empty() } else { failed(401) }
    })
    .await;
    ask(&mut client(&server)).await.expect("a page");
    let calls: Vec<_> = server.calls().iter().map(Call::is_token).collect();
    assert_eq!(calls, [true, false, true, false]);
}

#[tokio::test]
async fn refused_credentials_are_told_and_not_hammered() {
    let server = Server::start(|_| failed(403)).await;
    let error = first_error(&mut client(&server)).await;
    assert_eq!(error.category(), "CredentialsRejected");
    assert_eq!(server.questions().len(), 2);
    let server = Server::with_tokens(|_| refused()).await;
    let error = first_error(&mut client(&server)).await;
    assert_eq!(error.category(), "CredentialsRejected");
    assert!(error.to_string().contains("invalid_grant"), "{error}");
    assert_eq!(server.calls().len(), 1);
}

/// Each refresh token is taken once.
#[tokio::test]
async fn a_single_use_refresh_token_is_replaced_by_its_successor() {
    let mut next = 0;
    let names = ["first", "second", "third", "fourth"];
    let server = Server::with_tokens(move |call| {
        if !call.is_token() {
            return empty();
        }
        if !call.form.contains(&format!("refresh_token={}", names[next])) {
            return refused();
        }
        next += 1;
        let mut granted = token("access", 0);
        granted["refresh_token"] = json!(names[next]);
        ok(granted)
    })
    .await;
    let mut client = client(&server);
    for _ in 0..3 {
        ask(&mut client).await.expect("a page");
    }
    assert!(ask(&mut client).await.is_err(), "the successor isn't good, and the Secret's own is used up");
}

#[tokio::test]
async fn a_successor_that_is_refused_gives_way_to_the_secrets_own_refresh_token() {
    let server = Server::with_tokens(|call| {
        if !call.is_token() {
            return empty();
        }
        if !call.form.contains("refresh_token=first") {
            return refused();
        }
        let mut granted = token("access", 0);
        granted["refresh_token"] = json!("revoked");
        ok(granted)
    })
    .await;
    let mut client = client(&server);
    for _ in 0..2 {
        ask(&mut client).await.expect("a page");
    }
    let tokens = server.calls().iter().filter(|call| call.is_token()).count();
    assert_eq!(tokens, 3, "first, revoked, first");
}

#[tokio::test]
async fn new_credentials_are_used_at_once() {
    let server =
        Server::with_tokens(|call| if call.is_token() { ok(token("access", 3600)) } else { empty() }).await;
    let mut client = client(&server);
    collect(&mut client, now() - SignedDuration::from_mins(5)).await;
    let mut new = credentials();
    new.refresh_token = Some("rotated".to_owned());
    client.set_credentials(new);
    collect(&mut client, now() - SignedDuration::from_mins(5)).await;
    let tokens: Vec<_> = server.calls().into_iter().filter(Call::is_token).collect();
    assert!(tokens[1].form.contains("refresh_token=rotated"), "{tokens:?}");
}
