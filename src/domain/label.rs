//! Position labels: `Long_1` is the base, `Long_2` to `Long_6` are its pyramids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::order::UnknownName;
use super::position::Position;

/// A position's label within its instrument, `Long_1` to `Long_6`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(u8);

impl Label {
    /// The base position, `Long_1`.
    pub const BASE: Self = Self(1);
    /// The highest label, `Long_6`.
    pub const LAST: Self = Self(6);

    /// `Long_n`, if there is such a label.
    pub fn new(n: u8) -> Option<Self> {
        (1..=6).contains(&n).then_some(Self(n))
    }

    /// The number: 1 for the base.
    pub fn number(self) -> u8 {
        self.0
    }

    /// True for `Long_1`.
    pub fn is_base(self) -> bool {
        self == Self::BASE
    }

    /// The pyramid's index, 0 for `Long_2`; none for the base.
    pub fn pyramid_index(self) -> Option<u32> {
        u32::from(self.0).checked_sub(2)
    }

    /// Every label, the base first.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=6).map(Self)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Long_{}", self.0)
    }
}

impl FromStr for Label {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        text.strip_prefix("Long_")
            .filter(|number| number.len() == 1)
            .and_then(|number| Self::new(number.parse().ok()?))
            .ok_or_else(|| UnknownName { kind: "Label", text: text.to_owned() })
    }
}

impl TryFrom<String> for Label {
    type Error = UnknownName;
    fn try_from(text: String) -> Result<Self, UnknownName> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.to_string()
    }
}

/// What an EXIT names: one label, or everything on the instrument.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The position with this label.
    One(Label),
    /// All positions of the instrument.
    All,
}

impl Target {
    /// Says whether this label is meant.
    pub fn includes(self, label: Label) -> bool {
        match self {
            Self::One(one) => one == label,
            Self::All => true,
        }
    }

    /// Says whether `position` is meant, by its label.
    pub fn names(self, position: &Position) -> bool {
        match self {
            Self::One(label) => position.label == label.to_string(),
            Self::All => true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(label) => label.fmt(f),
            Self::All => f.write_str("ALL"),
        }
    }
}

impl FromStr for Target {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text == "ALL" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

impl TryFrom<String> for Target {
    type Error = UnknownName;
    fn try_from(text: String) -> Result<Self, UnknownName> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}
