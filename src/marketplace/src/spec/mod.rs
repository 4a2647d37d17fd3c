//! The wire types held against the marketplaces' official API files, and against whatever else might come.

mod amazon;
mod arbitrary;
mod bol;
mod ebay;
mod schema;

use schema::Official;

/// Each wire type by the name of its schema; in brackets what it requires beyond it.
macro_rules! follow {
    ($official:expr, $($name:literal $([$($required:literal),*])? => $wire:ty,)*) => {{
        let official = $official;
        let mut problems: Vec<String> = Vec::new();
        $(problems.extend(official.problems::<$wire>($name, &[$($($required),*)?]));)*
        assert!(problems.is_empty(), "{problems:#?}");
    }};
}
use follow;
