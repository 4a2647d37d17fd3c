use std::io::{BufReader, Read, Write};

use proptest::{collection::vec, prelude::*};

use crate::{
    Begin, FrameError, Item, LONGEST_ROW, Reader, Table, Value, Writer, compress, decompress,
    frame::{HEAD, ROW},
};

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(text) => Value::Text(text),
            Self::Blob(bytes) => Value::Blob(bytes),
        }
    }

    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(number),
            Value::Real(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

/// Rows of three columns.
type Rows = Vec<[Owned; 3]>;

const COLUMNS: [&str; 3] = ["id", "pii", "pii_key"];

fn begin() -> Begin {
    Begin { backup: "20261129T003250Z-5f0c1a2b".to_owned(), connection_id: "3f6c".to_owned(), schema: 7 }
}

fn any_value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        Just(Owned::Null),
        any::<i64>().prop_map(Owned::Integer),
        (-1e300..1e300).prop_map(Owned::Real),
        any::<String>().prop_map(Owned::Text),
        vec(any::<u8>(), 0..40).prop_map(Owned::Blob),
    ]
}

fn any_tables() -> impl Strategy<Value = Vec<Rows>> {
    vec(vec([any_value(), any_value(), any_value()], 0..6), 0..4)
}

fn name(table: usize) -> String {
    format!("table_{table}")
}

fn written(tables: &[Rows]) -> (Vec<u8>, Vec<Table>) {
    let mut writer = Writer::new(Vec::new(), &begin()).expect("begun");
    for (number, rows) in tables.iter().enumerate() {
        writer.table(&name(number), &COLUMNS).expect("a table");
        for row in rows {
            writer.row(&row.each_ref().map(Owned::value)).expect("a row");
        }
    }
    writer.finish().expect("written")
}

/// Of a table, by its name.
type Named = (String, Vec<Vec<Owned>>);

/// Everything that is in it, to its end.
fn read(from: impl Read) -> Result<Vec<Named>, FrameError> {
    let (mut reader, mut tables, mut are_known) = (Reader::new(from)?, Vec::new(), true);
    while let Some(item) = reader.next()? {
        match item {
            Item::Table { name, columns } => {
                are_known &= columns == COLUMNS;
                tables.push((name.to_owned(), Vec::new()));
            }
            Item::Row(values) => {
                let (_, rows): &mut (String, Vec<_>) = tables.last_mut().expect("a table");
                rows.push(values.into_iter().map(Owned::of).collect());
            }
            Item::TableEnd => {}
        }
    }
    // Altered names of columns are found at the table's end.
    assert!(are_known);
    Ok(tables)
}

/// Where each frame begins, and the end.
fn frames(data: &[u8]) -> Vec<usize> {
    let mut at = crate::frame::MAGIC.len();
    let mut starts = vec![at];
    while at < data.len() {
        let length = u32::from_be_bytes(data[at + 1..at + HEAD].try_into().expect("four bytes"));
        at += HEAD + usize::try_from(length).expect("short");
        starts.push(at);
    }
    starts
}

#[test]
fn a_frame_that_claims_more_than_is_there_costs_no_memory() {
    let (mut data, _) = written(&[vec![[const { Owned::Null }; 3]]]);
    let row = frames(&data)[2];
    assert_eq!(data[row], ROW);
    for (length, is_short) in [(LONGEST_ROW, true), (LONGEST_ROW + 1, false)] {
        let length = u32::try_from(length).expect("short");
        data[row + 1..row + HEAD].copy_from_slice(&length.to_be_bytes());
        let error = read(&data[..]).expect_err("refused");
        assert_eq!(matches!(error, FrameError::CutShort), is_short, "{error}");
    }
}

#[test]
fn a_row_that_is_too_long_or_has_other_columns_is_not_written() {
    let mut writer = Writer::new(Vec::new(), &begin()).expect("begun");
    assert!(writer.row(&[]).is_err(), "there is no table");
    writer.table("orders", &["pii"]).expect("a table");
    assert!(writer.row(&[Value::Null, Value::Null]).is_err());
    assert!(writer.row(&[Value::Blob(&vec![0; LONGEST_ROW])]).is_err());
    assert!(writer.table("orders", &["Zoë"]).is_err());
}

#[test]
fn a_newer_format_is_refused() {
    let error = read(&b"marketrelay data 2\n...."[..]).expect_err("refused");
    assert!(matches!(error, FrameError::Format));
}

#[test]
fn compressed_data_that_was_altered_or_cut_is_refused() {
    let rows: Rows =
        (0..500).map(|n| [Owned::Integer(n), Owned::Text("a".repeat(50)), Owned::Null]).collect();
    let (data, _) = written(std::slice::from_ref(&rows));
    let mut encoder = compress(Vec::new()).expect("an encoder");
    encoder.write_all(&data).expect("written");
    let packed = encoder.finish().expect("compressed");
    assert!(packed.len() < data.len() / 5);
    let unpack = |bytes: &[u8]| {
        let decoder = decompress(BufReader::new(bytes)).expect("a decoder");
        read(decoder)
    };
    assert_eq!(unpack(&packed).expect("its own")[0].1.len(), rows.len());
    for at in 0..packed.len() {
        assert!(unpack(&packed[..at]).is_err(), "cut at {at}");
        let mut altered = packed.clone();
        altered[at] ^= 0x10;
        // Some bits of compressed data say nothing; whatever is read is what was written.
        if let Ok(tables) = unpack(&altered) {
            assert_eq!(tables, unpack(&packed).expect("its own"));
        }
    }
}

proptest! {
    #[test]
    fn every_value_of_every_table_reads_back(tables in any_tables()) {
        let (data, sums) = written(&tables);
        let expected: Vec<_> = tables.iter().enumerate()
            .map(|(number, rows)| (name(number), rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(read(&data[..]).expect("its own"), expected);
        prop_assert_eq!(sums.iter().map(|table| table.rows).sum::<u64>(), tables.concat().len() as u64);
    }

    #[test]
    fn altered_data_is_refused(tables in any_tables(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut data, _) = written(&tables);
        let at = at.index(data.len());
        data[at] ^= 1 << bit;
        prop_assert!(read(&data[..]).is_err());
    }

    #[test]
    fn data_that_was_cut_or_continued_is_refused(tables in any_tables(), at in any::<prop::sample::Index>()) {
        let (mut data, _) = written(&tables);
        prop_assert!(read(&data[..at.index(data.len())]).is_err());
        data.push(0);
        prop_assert!(read(&data[..]).is_err());
    }

    #[test]
    fn reordered_repeated_or_missing_frames_are_refused(
        tables in any_tables(), one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let (data, _) = written(&tables);
        let starts = frames(&data);
        let frame = |index: usize| &data[starts[index]..starts[index + 1]];
        let (one, other) = (one.index(starts.len() - 1), other.index(starts.len() - 1));
        let all: Vec<_> = (0..starts.len() - 1).map(frame).collect();
        let with = |frames: Vec<&[u8]>| [&data[..starts[0]], &frames.concat()].concat();
        let (mut swapped, mut without, mut twice) = (all.clone(), all.clone(), all.clone());
        swapped.swap(one, other);
        without.remove(one);
        twice.insert(one, frame(one));
        for (what, frames) in [("swapped", swapped), ("without", without), ("twice", twice)] {
            let other = with(frames);
            prop_assert!(other == data || read(&other[..]).is_err(), "{what}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..300)) {
        let behind = [crate::frame::MAGIC, &bytes].concat();
        prop_assert!(read(&bytes[..]).is_err() && read(&behind[..]).is_err());
    }
}
