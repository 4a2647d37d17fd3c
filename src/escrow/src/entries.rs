use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::SerializeMap};
use zeroize::Zeroizing;

/// The entries of a key Secret; they are zeroized when dropped and never printed. In the document the bytes are base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Entries {
    /// One entry.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|bytes| bytes.as_slice())
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}

impl FromIterator<(String, Vec<u8>)> for Entries {
    fn from_iter<T: IntoIterator<Item = (String, Vec<u8>)>>(entries: T) -> Self {
        Self(entries.into_iter().map(|(name, bytes)| (name, Zeroizing::new(bytes))).collect())
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entries(..)")
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, bytes) in &self.0 {
            let text = Zeroizing::new(BASE64_STANDARD.encode(bytes));
            map.serialize_entry(name, text.as_str())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let texts: Vec<_> = texts.into_iter().map(|(name, text)| (name, Zeroizing::new(text))).collect();
        let decoded = texts.into_iter().map(|(name, text)| {
            let bytes = BASE64_STANDARD.decode(text.as_bytes());
            // The text isn't shown: it is a key.
            bytes.map(|bytes| (name, bytes)).map_err(|_| D::Error::custom("an entry isn't base64"))
        });
        decoded.collect()
    }
}
