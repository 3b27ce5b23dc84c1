//! Text as words: the one definition that the index, the scan of rows that are not indexed yet, and queries share.
//!
//! A token is a run of letters and digits (Unicode's), in lower case, cut at [`TOKEN_BYTES_MAX`]. What is searched of an
//! event is its text and every string and whole number in its attributes' values; each is a field of its own, so
//! that a phrase never spans two of them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longer words are compared by their beginning only.
const TOKEN_BYTES_MAX: usize = 48;

/// Hands every token of `text` to `each`. `token` is a buffer to reuse.
pub(crate) fn each_token(text: &str, token: &mut String, each: &mut impl FnMut(&str)) {
    token.clear();
    let mut full = false;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            full |= token.len() >= TOKEN_BYTES_MAX;
            if !full {
                token.push(c.to_ascii_lowercase());
            }
        } else if !c.is_ascii() && c.is_alphanumeric() {
            for lower in c.to_lowercase() {
                full |= token.len() + lower.len_utf8() > TOKEN_BYTES_MAX;
                if !full {
                    token.push(lower);
                }
            }
        } else if !token.is_empty() {
            each(token);
            token.clear();
            full = false;
        }
    }
    if !token.is_empty() {
        each(token);
        token.clear();
    }
}

/// Hands every searched field of a row to `each`: the text, then the values in the attributes' JSON.
pub(crate) fn each_field(text: &str, attributes: Option<&str>, each: &mut dyn FnMut(&str)) {
    each(text);
    if let Some(attributes) = attributes {
        // JSON that cannot be read has no fields from there on; the row itself is still found by its text.
        let _ = Values(each).deserialize(&mut serde_json::Deserializer::from_str(attributes));
    }
}

/// Walks JSON values without building them.
struct Values<'a>(&'a mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        (self.0)(&number.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        (self.0)(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Values(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<IgnoredAny>()?.is_some() {
            entries.next_value_seed(Values(&mut *self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let mut found = Vec::new();
        each_token(text, &mut String::new(), &mut |token| found.push(token.to_owned()));
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn splits_into_lower_case_words() {
        check("", &[]);
        check("Error: API_Overloaded (529)!", &["error", "api", "overloaded", "529"]);
        check("Größe ÜBER 漢字 İ", &["größe", "über", "漢字", "i\u{307}"]);
        check(&"x".repeat(100), &[&"x".repeat(48)]);
        check(&format!("{}éa b", "x".repeat(47)), &[&"x".repeat(47), "b"]);
    }

    #[test]
    fn fields_are_texts_and_whole_numbers() {
        let mut found = Vec::new();
        let attributes = r#"{"key":"value \"q\"","n":529,"f":1.5,"deep":{"list":["x",-3,null,true]}}"#;
        each_field("text", Some(attributes), &mut |field| found.push(field.to_owned()));
        assert_eq!(found, ["text", "value \"q\"", "529", "x", "-3"]);
    }
}
