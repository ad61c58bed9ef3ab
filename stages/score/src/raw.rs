//! The fields of a JSON object as they are written: `serde_json` keeps neither their order nor integers of more than 64 bits.

use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The fields of an object in their order, each with its name and the text of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFields<'t>(pub Vec<(String, &'t str)>);

impl<'t> RawFields<'t> {
    /// Parses an object.
    ///
    /// # Errors
    /// Returns an error if the text is not a JSON object.
    pub fn parse(text: &'t str) -> serde_json::Result<Self> {
        // The scan below relies on valid JSON.
        serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text)?;
        let (mut fields, mut depth, mut start, mut name) = (Vec::new(), 0, 0, String::new());
        let (mut is_string, mut is_escaped) = (false, false);
        for (place, byte) in text.bytes().enumerate() {
            if is_string {
                is_string = is_escaped || byte != b'"';
                is_escaped = !is_escaped && byte == b'\\';
                continue;
            }
            let end_of_field = depth == 1 && matches!(byte, b',' | b'}');
            if end_of_field && !text[start..place].trim().is_empty() {
                fields.push((std::mem::take(&mut name), text[start..place].trim()));
            }
            match byte {
                b'"' => is_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b':' if depth == 1 => name = serde_json::from_str(text[start..place].trim())?,
                _ => {}
            }
            if end_of_field || depth == 1 && matches!(byte, b'{' | b':') {
                start = place + 1;
            }
        }
        Ok(Self(fields))
    }

    /// Returns the text of a field; of repeated ones that of the last, as parsers of JSON do.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().rev().find(|(field, _)| field == name).map(|(_, text)| *text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn values_are_as_they_are_written() {
        let text = r#" { "b" : 123456789012345678901234567890, "a\"\\,{":[ {"x":"}]\\"} , 1e0 ],"c":"" , "b":-0.0 } "#;
        let fields = RawFields::parse(text).unwrap();
        let expected = [
            ("b", "123456789012345678901234567890"),
            ("a\"\\,{", r#"[ {"x":"}]\\"} , 1e0 ]"#),
            ("c", r#""""#),
            ("b", "-0.0"),
        ];
        assert_eq!(fields.0, expected.map(|(name, text)| (name.to_owned(), text)));
        assert_eq!((fields.get("b"), fields.get("d")), (Some("-0.0"), None));
        assert_eq!(RawFields::parse("{ }").unwrap().0, []);
        for wrong in ["", "[]", "{", "{\"a\":1,}", "{\"a\":1} 2", "{'a':1}"] {
            assert!(RawFields::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), any::<i64>().prop_map(Value::from), ".{0,4}".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn each_field_is_that_of_the_object(fields in prop::collection::btree_map(".{0,3}", value(), 0..5), pretty: bool) {
            let object: Map<String, Value> = fields.into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let raw = RawFields::parse(&text).unwrap();
            let parsed: Vec<_> =
                raw.0.iter().map(|(name, text)| (name.clone(), serde_json::from_str::<Value>(text).unwrap())).collect();
            prop_assert_eq!(parsed, object.into_iter().collect::<Vec<_>>());
        }
    }
}
