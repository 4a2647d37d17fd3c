//! A deserializer that reads an official description instead of an answer: what a wire type asks for is looked up in
//! the schema, and the schema says what it gets.

use std::{cell::RefCell, fs, path::Path};

use serde::{
    Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Error, Value, json};

/// An official file.
pub(super) struct Official(Value);

impl Official {
    pub(super) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../specs").join(name);
        let text = fs::read_to_string(&path).expect("an official file");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    pub(super) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).expect("a place in the official file")
    }

    fn schema(&self, name: &str) -> &Value {
        let places = ["/components/schemas/", "/definitions/"];
        let found = places.iter().find_map(|place| self.0.pointer(&format!("{place}{name}")));
        found.unwrap_or_else(|| panic!("{name} isn't in the official file"))
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.resolve(self.at(reference.trim_start_matches('#'))),
            None => schema,
        }
    }

    /// What is wrong with the wire type of a schema: once with all that it reads, once with what is required alone.
    /// `required` adds to what the schema requires.
    pub(super) fn problems<T: DeserializeOwned>(&self, name: &str, required: &[&str]) -> Vec<String> {
        let problems = RefCell::new(Vec::new());
        for complete in [true, false] {
            let place = Place {
                official: self,
                schema: self.schema(name),
                at: name.to_owned(),
                required,
                complete,
                problems: &problems,
            };
            if let Err(error) = T::deserialize(place) {
                problems.borrow_mut().push(format!("{name}, complete: {complete}: {error}"));
            }
        }
        problems.into_inner()
    }

    /// An answer that has everything that the schema knows, with its examples where it has some.
    pub(super) fn instance(&self, name: &str) -> Value {
        self.sample(self.schema(name), name, 0)
    }

    fn sample(&self, schema: &Value, at: &str, depth: u32) -> Value {
        let schema = self.resolve(schema);
        match schema["type"].as_str() {
            Some("array") if depth > 8 => json!([]),
            Some("array") => json!([self.sample(&schema["items"], at, depth + 1)]),
            _ if schema["properties"].is_object() => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                let deeper = properties.filter(|_| depth <= 8);
                deeper.map(|(name, one)| (name.clone(), self.sample(one, name, depth + 1))).collect()
            }
            _ => leaf(schema, at),
        }
    }
}

/// A value that fits a schema without parts.
fn leaf(schema: &Value, at: &str) -> Value {
    let is_time = schema["format"] == "date-time" || at.ends_with("Date") || at.ends_with("Time");
    match schema["type"].as_str() {
        Some("integer") => json!(2),
        Some("number") => schema.get("example").filter(|one| one.is_number()).cloned().unwrap_or(json!(12.5)),
        Some("boolean") => json!(true),
        _ if schema["format"] == "date" => json!("2026-01-02"),
        _ if is_time => json!("2026-01-02T03:04:05.678+01:00"),
        _ if at.to_lowercase().ends_with("currency") || at.ends_with("currencyCode") => json!("EUR"),
        _ if at.ends_with("amount") || at.to_lowercase().ends_with("value") => json!("12.50"),
        _ => schema.get("example").filter(|one| one.is_string()).cloned().unwrap_or(json!("text")),
    }
}

struct Place<'a> {
    official: &'a Official,
    schema: &'a Value,
    at: String,
    required: &'a [&'a str],
    complete: bool,
    problems: &'a RefCell<Vec<String>>,
}

impl<'a> Place<'a> {
    fn inside(&self, schema: &'a Value, name: &str) -> Self {
        Self { schema, at: format!("{}.{name}", self.at), ..*self }
    }

    fn wrong(&self, what: &str) {
        self.problems.borrow_mut().push(format!("{}: {what}", self.at));
    }

    fn is(&self, kinds: &[&str]) -> &'a Value {
        let schema = self.official.resolve(self.schema);
        if !kinds.iter().any(|kind| schema["type"] == *kind) {
            self.wrong(&format!("read as {kinds:?}, described as {}", schema["type"]));
        }
        schema
    }

    /// Reads an official value as text, as a real answer is read.
    fn text(
        &self,
        kinds: &[&str],
    ) -> serde_json::Deserializer<serde_json::de::IoRead<std::io::Cursor<String>>> {
        let schema = self.is(kinds);
        let name = self.at.rsplit('.').find(|part| *part != "0").unwrap_or_default();
        serde_json::Deserializer::from_reader(std::io::Cursor::new(leaf(schema, name).to_string()))
    }
}

macro_rules! leaves {
    ($($method:ident as $($kind:literal)|+;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.text(&[$($kind),+]).$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Place<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom(format!("{} is read as something that isn't checked", self.at)))
    }

    leaves! {
        deserialize_str as "string";
        deserialize_string as "string";
        deserialize_bool as "boolean";
        deserialize_i64 as "integer";
        deserialize_u64 as "integer";
        deserialize_u32 as "integer";
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.text(&["string", "number"]).deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let schema = self.is(&["array"]);
        let item = self.inside(&schema["items"], "0");
        visitor.visit_seq(One(Some(item)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let schema = self.is(&["object"]);
        let required = |name: &str| {
            let listed = schema["required"].as_array().into_iter().flatten();
            listed.chain([].iter()).any(|one| one == name) || self.required.contains(&name)
        };
        let mut parts = Vec::new();
        for field in fields {
            match schema["properties"].get(field) {
                None => self.wrong(&format!("there is no {field:?}")),
                Some(part) if self.complete || required(field) => {
                    parts.push((*field, self.inside(part, field)));
                }
                Some(_) => {}
            }
        }
        parts.reverse();
        visitor.visit_map(Fields(parts, None))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct map enum
        identifier ignored_any
    }
}

struct One<'a>(Option<Place<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|place| seed.deserialize(place)).transpose()
    }
}

struct Fields<'a>(Vec<(&'static str, Place<'a>)>, Option<Place<'a>>);

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, place)) = self.0.pop() else { return Ok(None) };
        self.1 = Some(place);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let place = self.1.take().expect("a value follows its key");
        let at = place.at.clone();
        seed.deserialize(place).map_err(|error| serde::de::Error::custom(format!("{at}: {error}")))
    }
}

mod tests {
    use serde::Deserialize;

    use super::*;

    fn problems<T: DeserializeOwned>() -> Vec<String> {
        let official = Official(json!({"definitions": {"Thing": {
            "type": "object", "required": ["name"],
            "properties": {
                "name": {"type": "string"}, "size": {"type": "integer"},
                "parts": {"type": "array", "items": {"$ref": "#/definitions/Thing"}},
            },
        }}}));
        official.problems::<T>("Thing", &[])
    }

    #[expect(dead_code, reason = "read by the check alone")]
    #[test]
    fn a_wire_type_that_differs_from_its_schema_is_found() {
        #[derive(Deserialize)]
        struct Right {
            name: String,
            size: Option<i64>,
            #[serde(default)]
            parts: Vec<Part>,
        }
        #[derive(Deserialize)]
        struct Part {
            name: String,
        }
        #[derive(Deserialize)]
        struct Typo {
            name: String,
            #[serde(default)]
            sise: Option<i64>,
        }
        #[derive(Deserialize)]
        struct TypoBelow {
            #[serde(default)]
            parts: Vec<Typo>,
        }
        #[derive(Deserialize)]
        struct TooStrict {
            size: i64,
        }
        #[derive(Deserialize)]
        struct OtherKind {
            name: i64,
        }
        assert_eq!(problems::<Right>(), [] as [&str; 0]);
        assert!(problems::<Typo>()[0].contains("there is no \"sise\""));
        assert!(problems::<TypoBelow>()[0].contains("Thing.parts.0: there is no \"sise\""));
        assert!(problems::<TooStrict>()[0].contains("missing field `size`"));
        assert!(problems::<OtherKind>()[0].contains("described as \"string\""));
    }
}
