use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use crate::{Fault, Fields, Kind, LOG_TARGET, Options, Position, Signer, Summary, Verifier, line, link};

const CHAIN: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";

fn signer() -> Signer {
    Signer::new(&[7; 32]).expect("a key")
}

fn deed(number: u64) -> Fields {
    Fields::from([
        ("action".to_owned(), "OrdersAnonymised".into()),
        ("count".to_owned(), number.into()),
        ("result".to_owned(), "Zoë \"quoted\" \\ done".into()),
    ])
}

/// The lines of an export of so many records, after so many.
fn export(after: u64, to: u64, begins: Option<Kind>) -> Vec<Vec<u8>> {
    let (mut position, mut lines) = (Position::START, Vec::new());
    let signed = |kind, position| signer().sign(kind, CHAIN, position, Timestamp::UNIX_EPOCH).line();
    for number in 1..=to {
        if let Some(kind) = begins.filter(|_| number == after + 1) {
            lines.push(signed(kind, position));
        }
        let mut fields = deed(number);
        position = link(&mut fields, CHAIN, position);
        if number > after {
            lines.push(line(&fields));
        }
    }
    lines.push(signed(Kind::Head, position));
    lines.into_iter().map(String::into_bytes).collect()
}

fn verify(lines: &[Vec<u8>], options: &Options) -> Result<Summary, Fault> {
    let mut verifier = Verifier::new(options.clone());
    // As a file is read: a line can come to hold the end of one.
    let file = lines.join(&b'\n');
    file.split(|byte| *byte == b'\n').try_for_each(|line| verifier.read(line))?;
    verifier.finish()
}

fn known() -> Options {
    Options { public_key: Some(signer().public_key()), ..Options::default() }
}

#[test]
fn an_export_is_verified_from_its_beginning_a_checkpoint_or_a_start_that_was_asked_for() {
    let summary = verify(&export(0, 5, None), &known()).expect("no fault");
    assert_eq!((summary.chains[0].after, summary.chains[0].last, summary.is_known), (0, 5, true));
    let pruned = export(3, 5, Some(Kind::Checkpoint));
    assert_eq!(verify(&pruned, &known()).expect("no fault").chains[0].after, 3);
    let part = export(3, 5, Some(Kind::Start));
    assert_eq!(verify(&part, &known()), Err(Fault::BeginsLate { after: 3 }));
    verify(&part, &Options { after: 3, ..known() }).expect("no fault");
    assert_eq!(verify(&export(3, 5, None), &known()), Err(Fault::BeginsLate { after: 3 }));
    let both = [export(0, 3, None), export(3, 5, Some(Kind::Start))].concat();
    assert_eq!(verify(&both, &known()).expect("no fault").chains[0].last, 5);
}

#[test]
fn each_way_of_tampering_is_told_with_its_record() {
    let lines = export(0, 5, None);
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        verify(&lines, &known()).expect_err("a fault")
    };
    let replace = |at: usize, from: &str, to: &str| {
        changed(&|lines| {
            let text = String::from_utf8(lines[at].clone()).expect("text");
            assert!(text.contains(from));
            lines[at] = text.replace(from, to).into_bytes();
        })
    };
    assert_eq!(replace(1, "\"count\":2", "\"count\":3"), Fault::Changed { at: 2, sequence: 2 });
    assert_eq!(replace(1, "\"count\":2", "\"count\": 2"), Fault::Unreadable { at: 2, expected: 2 });
    assert_eq!(changed(&|lines| drop(lines.drain(1..3))), Fault::Missing { at: 2, from: 2, to: 3 });
    assert_eq!(changed(&|lines| lines.swap(1, 2)), Fault::Missing { at: 2, from: 2, to: 2 });
    assert_eq!(
        changed(&|lines| lines.insert(2, lines[1].clone())),
        Fault::Misplaced { at: 3, sequence: 2, expected: 3 }
    );
    assert_eq!(changed(&|lines| drop(lines.drain(3..5))), Fault::CutOff { from: 4, to: 5 });
    assert_eq!(changed(&|lines| drop(lines.pop())), Fault::NoHead { last: 5 });
    assert_eq!(changed(&|lines| drop(lines.remove(0))), Fault::BeginsLate { after: 1 });
    assert_eq!(changed(&Vec::clear), Fault::Empty);
    // A record with a hash of its own, by somebody who can't sign.
    let mut forged = Fields::from([("action".to_owned(), "Nothing".into())]);
    link(&mut forged, CHAIN, Position { sequence: 1, hash: [1; 32] });
    let exchanged = changed(&|lines| lines[1] = line(&forged).into_bytes());
    assert_eq!(exchanged, Fault::Unlinked { at: 2, sequence: 2 });
    let other = Options { public_key: Some("00".repeat(32)), ..Options::default() };
    assert!(matches!(verify(&lines, &other), Err(Fault::Signature { at: 6, .. })));
}

#[test]
fn the_last_record_exchanged_by_one_that_continues_the_chain_contradicts_the_head() {
    let mut lines = export(0, 5, None);
    let before: Fields = serde_json::from_slice(&lines[3]).expect("a record");
    let hash = crate::from_hex(before["hash"].as_str().expect("text")).expect("hex");
    let mut forged = deed(6);
    link(&mut forged, CHAIN, Position { sequence: 4, hash });
    lines[4] = line(&forged).into_bytes();
    assert_eq!(verify(&lines, &known()), Err(Fault::Contradicted { at: 6, sequence: 5 }));
}

#[test]
fn records_of_several_processes_are_found_in_a_log_and_a_missing_or_changed_one_is_told() {
    let log = Options { log: true, ..Options::default() };
    let (mut one, mut two, mut lines) = (Position::START, Position::START, Vec::new());
    for number in 1..=4 {
        for (chain, position) in [("one", &mut one), ("two", &mut two)] {
            let mut fields = deed(number);
            *position = link(&mut fields, chain, *position);
            fields.insert("message".to_owned(), "audit".into());
            let logged = json!({"timestamp": "now", "level": "INFO", "target": LOG_TARGET, "fields": fields});
            lines.push(logged.to_string().into_bytes());
            lines.push(b"{\"target\":\"other\",\"fields\":{\"message\":\"x\"}}".to_vec());
            lines.push(b"thread 'main' panicked".to_vec());
        }
    }
    let summary = verify(&lines, &log).expect("no fault");
    assert_eq!(summary.chains.iter().map(|seen| seen.last).collect::<Vec<_>>(), [4, 4]);
    let mut without = lines.clone();
    without.remove(6);
    assert_eq!(verify(&without, &log), Err(Fault::Missing { at: 12, from: 2, to: 2 }));
    let text = String::from_utf8(lines[6].clone()).expect("text").replace("\"count\":2", "\"count\":9");
    lines[6] = text.into_bytes();
    assert_eq!(verify(&lines, &log), Err(Fault::Changed { at: 7, sequence: 2 }));
    lines.drain(..6);
    lines.remove(0);
    lines.remove(2);
    assert_eq!(verify(&lines, &log), Err(Fault::BeginsLate { after: 2 }));
    let part = Options { after: 2, ..log };
    verify(&lines, &part).expect("no fault");
}

#[derive(Clone, Debug)]
enum Change {
    Byte { line: usize, at: usize, by: u8 },
    Remove(usize),
    Swap(usize, usize),
    Repeat(usize, usize),
}

fn change(lines: usize) -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..lines, any::<prop::sample::Index>(), 1_u8..)
            .prop_map(|(line, at, by)| Change::Byte { line, at: at.index(10_000), by }),
        1 => (0..lines).prop_map(Change::Remove),
        1 => (0..lines, 1..lines).prop_map(move |(one, by)| Change::Swap(one, (one + by) % lines)),
        1 => (0..lines, 0..=lines).prop_map(|(which, to)| Change::Repeat(which, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn any_single_change_of_an_export_is_found(
        (records, begins, change) in (1_u64..6, prop::bool::ANY).prop_flat_map(|(records, begins)| {
            let lines = usize::try_from(records).expect("small") + 1 + usize::from(begins);
            (Just(records), Just(begins), change(lines))
        }),
    ) {
        let after = if begins { 3 } else { 0 };
        let lines = export(after, after + records, begins.then_some(Kind::Checkpoint));
        verify(&lines, &known()).expect("no fault before");
        let mut changed = lines.clone();
        match change {
            Change::Byte { line, at, by } => {
                let at = at % changed[line].len();
                changed[line][at] = changed[line][at].wrapping_add(by);
            }
            Change::Remove(line) => drop(changed.remove(line)),
            Change::Swap(one, other) => changed.swap(one, other),
            Change::Repeat(which, to) => changed.insert(to, lines[which].clone()),
        }
        // A signed statement that is repeated beside itself says nothing new.
        let is_statement = |line: &Vec<u8>| line.windows(9).any(|window| window == b"signature");
        let says_the_same = {
            let mut once = changed.clone();
            once.dedup_by(|one, other| one == other && is_statement(one));
            once == lines
        };
        prop_assert!(says_the_same || verify(&changed, &known()).is_err(), "{:?}", change);
    }
}
