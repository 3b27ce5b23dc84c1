//! Values of settings: whether one fits, and whether the server's way to write it means the same.

/// What the server knows of a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: String,
    /// `bool`, `enum`, `integer`, `real`, `string`
    pub(super) vartype: String,
    /// `8kB`, `ms`
    pub(super) unit: Option<String>,
    pub(super) min: Option<String>,
    pub(super) max: Option<String>,
    pub(super) choices: Vec<String>,
}

const MEMORY: &[(&str, f64)] = &[("B", 1.0), ("kB", 1_024.0), ("MB", 1_048_576.0), ("GB", 1_073_741_824.0), ("TB", 1_099_511_627_776.0)];
const TIME: &[(&str, f64)] = &[("us", 0.001), ("ms", 1.0), ("s", 1_000.0), ("min", 60_000.0), ("h", 3_600_000.0), ("d", 86_400_000.0)];

/// `8kB` as a table and how many of its smallest unit it is.
fn base(unit: &str) -> Option<(&'static [(&'static str, f64)], f64)> {
    let digits = unit.len() - unit.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let count = if digits == 0 { 1.0 } else { unit[..digits].parse().ok()? };
    [MEMORY, TIME].into_iter().find_map(|table| Some((table, count * table.iter().find(|(name, _)| *name == &unit[digits..])?.1)))
}

/// `64MB` in the setting's own unit.
fn number(text: &str, unit: Option<&str>) -> Result<f64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter)).len();
    // `1e` of `1e3`, but not of `1 exabyte`.
    let value: f64 = text[..digits].parse().map_err(|_| format!("{text:?} is not a number"))?;
    if !value.is_finite() {
        return Err(format!("{text:?} is not a number"));
    }
    let given = text[digits..].trim();
    if given.is_empty() {
        return Ok(value);
    }
    let Some((table, own)) = unit.and_then(base) else { return Err(format!("{text:?} has a unit, and this setting has none")) };
    let factor = table.iter().find(|(name, _)| *name == given).map(|(_, factor)| factor);
    let known = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    factor.map(|factor| value * factor / own).ok_or_else(|| format!("{given:?} is none of the units {}", known()))
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

impl Shape {
    /// Why the value does not fit, if so.
    pub(super) fn check(&self, value: &str) -> Result<(), String> {
        if value.chars().any(char::is_control) || value.len() > 1_024 {
            return Err("it must be one line of at most 1024 bytes".to_owned());
        }
        match self.vartype.as_str() {
            "bool" => truth(value).map(|_| ()).ok_or_else(|| format!("{value:?} is neither on nor off")),
            "enum" => {
                let known = self.choices.iter().any(|choice| choice.eq_ignore_ascii_case(value.trim()));
                // An enumeration may have hidden words for on and off.
                let hidden = truth(value).is_some() && self.choices.iter().any(|choice| truth(choice) == truth(value));
                if known || hidden { Ok(()) } else { Err(format!("{value:?} is none of {}", self.choices.join(", "))) }
            }
            "integer" | "real" => self.in_range(value),
            _ => Ok(()),
        }
    }

    fn in_range(&self, value: &str) -> Result<(), String> {
        let found = number(value, self.unit.as_deref())?;
        let bound = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
        let (min, max) = (bound(&self.min).unwrap_or(f64::MIN), bound(&self.max).unwrap_or(f64::MAX));
        if (min..=max).contains(&found) {
            return Ok(());
        }
        let unit = self.unit.as_deref().map_or_else(String::new, |unit| format!(" (in units of {unit})"));
        let text = |bound: &Option<String>| bound.clone().unwrap_or_default();
        Err(format!("{value:?} is {found}{unit}, and it must lie between {} and {}", text(&self.min), text(&self.max)))
    }

    /// Whether `seen`, in the setting's own unit, is what was wanted.
    pub(super) fn same(&self, wanted: &str, seen: &str) -> bool {
        match self.vartype.as_str() {
            "bool" => truth(wanted) == truth(seen),
            "enum" => wanted.trim().eq_ignore_ascii_case(seen) || (truth(wanted).is_some() && truth(wanted) == truth(seen)),
            "integer" | "real" => match (number(wanted, self.unit.as_deref()), seen.parse::<f64>()) {
                // The server rounds to whole units.
                (Ok(wanted), Ok(seen)) => {
                    (wanted - seen).abs() <= if self.vartype == "integer" { 0.5 } else { f64::EPSILON * wanted.abs() }
                }
                _ => false,
            },
            _ => wanted == seen,
        }
    }
}

/// `"pg_stat_statements"."max"`: a name is a name, whatever it holds.
pub(super) fn identifier(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

/// `E'…'`: a text is a text, whatever it holds and however the server reads backslashes.
pub(super) fn literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(vartype: &str, unit: Option<&str>, min: &str, max: &str) -> Shape {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Shape {
            name: "x".to_owned(),
            vartype: vartype.to_owned(),
            unit: unit.map(str::to_owned),
            min: text(min),
            max: text(max),
            choices: vec!["minimal".to_owned(), "replica".to_owned(), "on".to_owned()],
        }
    }

    #[test]
    fn values_fit_or_say_why_not() {
        let work_mem = shape("integer", Some("kB"), "64", "2147483647");
        let buffers = shape("integer", Some("8kB"), "16", "1073741823");
        let idle = shape("integer", Some("ms"), "0", "2147483647");
        let cost = shape("real", None, "0", "1.79769e+308");
        let cases = [
            (&work_mem, "64MB", true),
            (&work_mem, "65536", true),
            (&work_mem, "1kB", false),
            (&work_mem, "3TB", false),
            (&work_mem, "64 MB", true),
            (&work_mem, "64mb", false),
            (&work_mem, "much", false),
            (&work_mem, "", false),
            (&work_mem, "5min", false),
            (&buffers, "128MB", true),
            (&buffers, "64kB", false),
            (&idle, "5min", true),
            (&idle, "-1", false),
            (&idle, "30d", false),
            (&cost, "1.1", true),
            (&cost, "NaN", false),
            (&cost, "1.1ms", false),
            (&shape("bool", None, "", ""), "on", true),
            (&shape("bool", None, "", ""), "maybe", false),
            (&shape("enum", None, "", ""), "Replica", true),
            (&shape("enum", None, "", ""), "logical", false),
            (&shape("enum", None, "", ""), "true", true),
            (&shape("string", None, "", ""), "'; drop", true),
            (&shape("string", None, "", ""), "a\nb", false),
        ];
        for (shape, value, expect) in cases {
            assert_eq!(shape.check(value).is_ok(), expect, "{value} {:?}", shape.check(value));
        }
        assert!(work_mem.same("64MB", "65536") && buffers.same("100kB", "13") && idle.same("5min", "300000"));
        assert!(!work_mem.same("64MB", "65537") && !work_mem.same("64MB", ""));
    }

    #[test]
    fn names_and_texts_stay_what_they_are() {
        assert_eq!(identifier("pg_stat_statements.max"), "\"pg_stat_statements\".\"max\"");
        assert_eq!(identifier("x\"; drop"), "\"x\"\"; drop\"");
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
