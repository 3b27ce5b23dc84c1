//! One severity scale, three vocabularies accepted.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad it is. `Sev1` is the worst; ordering is by weight, so `Sev1 > Sev4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    #[serde(rename = "SEV1")]
    Sev1,
    #[serde(rename = "SEV2")]
    Sev2,
    #[serde(rename = "SEV3")]
    Sev3,
    #[serde(rename = "SEV4")]
    Sev4,
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Sev1, Self::Sev2, Self::Sev3, Self::Sev4];

    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Sev1 => 1,
            Self::Sev2 => 2,
            Self::Sev3 => 3,
            Self::Sev4 => 4,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sev1 => "SEV1",
            Self::Sev2 => "SEV2",
            Self::Sev3 => "SEV3",
            Self::Sev4 => "SEV4",
        }
    }

    /// Time to acknowledge: 5 min, 15 min, 1 h, 24 h.
    #[must_use]
    pub const fn acknowledge_within(self) -> std::time::Duration {
        std::time::Duration::from_secs(match self {
            Self::Sev1 => 5 * 60,
            Self::Sev2 => 15 * 60,
            Self::Sev3 => 60 * 60,
            Self::Sev4 => 24 * 60 * 60,
        })
    }
}

impl PartialOrd for Severity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Severity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.number().cmp(&self.number())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no severity in any of the vocabularies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a severity: use SEV1 to SEV4, P0 to P3, or critical, error, warning, info")]
pub struct UnknownSeverity(pub String);

impl FromStr for Severity {
    type Err = UnknownSeverity;

    /// critical = P0 = SEV1, error = P1 = SEV2, warning = P2 = SEV3, info = P3 = SEV4. A rule whose `sev` label
    /// says otherwise for a warning is read by the rule loader, not here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        Ok(match plain.as_str() {
            "sev1" | "p0" | "critical" => Self::Sev1,
            "sev2" | "p1" | "error" => Self::Sev2,
            "sev3" | "p2" | "warning" => Self::Sev3,
            "sev4" | "p3" | "info" => Self::Sev4,
            _ => return Err(UnknownSeverity(text.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_vocabularies_are_one_scale() {
        for (text, severity) in [
            ("SEV-1", Severity::Sev1),
            ("P0", Severity::Sev1),
            ("critical", Severity::Sev1),
            ("sev2", Severity::Sev2),
            ("p1", Severity::Sev2),
            ("error", Severity::Sev2),
            ("Warning", Severity::Sev3),
            ("P2", Severity::Sev3),
            ("info", Severity::Sev4),
            ("SEV 4", Severity::Sev4),
        ] {
            assert_eq!(text.parse::<Severity>(), Ok(severity), "{text}");
        }
        assert!("page".parse::<Severity>().is_err());
        assert!(Severity::Sev1 > Severity::Sev2, "SEV1 weighs most");
    }
}
