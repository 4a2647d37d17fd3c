use std::{io, path::Path};

use marketrelay_snapshot::Item;
use snafu::{ResultExt, Whatever};

use super::{Which, open};
use crate::size::size;

/// Writes what was checked.
pub async fn run(which: &Which, identity: Option<&Path>) -> Result<(), Whatever> {
    let identities = identity.map(open::identities).transpose()?;
    let (store, id, manifest) = which.find().await?;
    let (read, is_decrypted) = (manifest.clone(), identities.is_some());
    let rows = open::download(&store, &id, &manifest, move |from| {
        let mut rows = 0u64;
        match identities {
            None => drop(io::copy(from, &mut io::sink()).whatever_context("the download has failed")?),
            Some(identities) => open::rows(from, &identities, &read, |item| {
                rows += u64::from(matches!(item, Item::Row(_)));
                Ok(())
            })?,
        }
        Ok(rows)
    })
    .await?;
    println!("{id} is whole: {}, as its manifest says", size(manifest.data.bytes));
    let trust = if which.place.public_key.is_some() {
        "the relay's key"
    } else {
        "the key that it names (--public-key would say whether that is the relay's)"
    };
    println!("signed by {trust}");
    if is_decrypted {
        println!("decrypted: {} tables with {rows} rows, as its manifest says", manifest.tables.len());
    } else {
        println!("not decrypted (--identity would)");
    }
    Ok(())
}
