//! When a certificate expires. Only its dates are read (RFC 5280, section 4.1), whoever signed it.

use paramedic_model::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last moment at which a certificate in DER is valid.
pub(crate) fn expiry(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = take(der, SEQUENCE)?;
    let (to_be_signed, _) = take(certificate, SEQUENCE)?;
    // The version is left out in certificates of the first one.
    let rest = take(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = take(rest, INTEGER)?;
    let (_algorithm, rest) = take(rest, SEQUENCE)?;
    let (_issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, _) = take(rest, SEQUENCE)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Takes an element with that tag off: its content, and what follows it.
fn take(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == wanted).then_some((content, rest))
}

fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDhhmmssZ` of the years 1950 to 2049, or the same with four digits of the year.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let rest = rest.strip_suffix('Z').filter(|rest| rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_digit()))?;
    let part = |from: usize| &rest[from..from + 2];
    Timestamp::parse(&format!("{year:04}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            length @ 0..=0x7f => out.push(length as u8),
            length => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    fn certificate(tag: u8, not_after: &str) -> Vec<u8> {
        let validity = [wrap(UTC_TIME, b"200101000000Z"), wrap(tag, not_after.as_bytes())].concat();
        let parts = [
            wrap(VERSION, &wrap(INTEGER, &[2])),
            wrap(INTEGER, &[7; 20]),
            wrap(SEQUENCE, &[6, 1, 1]),
            wrap(SEQUENCE, &[0; 200]),
            wrap(SEQUENCE, &validity),
        ];
        wrap(SEQUENCE, &wrap(SEQUENCE, &parts.concat()))
    }

    #[test]
    fn reads_both_forms_of_time() {
        for (tag, text, expected) in [
            (UTC_TIME, "300102030405Z", Some("2030-01-02T03:04:05.000Z")),
            (UTC_TIME, "991231235959Z", Some("1999-12-31T23:59:59.000Z")),
            (GENERALIZED_TIME, "20600102030405Z", Some("2060-01-02T03:04:05.000Z")),
            (GENERALIZED_TIME, "99991231235959Z", Some("9999-12-31T23:59:59.000Z")),
            (UTC_TIME, "3001020304Z", None),
            (UTC_TIME, "3\u{e9}0102030405Z", None),
            (INTEGER, "300102030405Z", None),
        ] {
            assert_eq!(expiry(&certificate(tag, text)).map(|at| at.to_string()).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_does_no_harm(at in 0usize..300, byte in any::<u8>(), cut in 0usize..400) {
            let mut der = certificate(UTC_TIME, "300102030405Z");
            let at = at % der.len();
            der[at] = byte;
            der.truncate(cut);
            let _ = expiry(&der);
        }
    }
}
