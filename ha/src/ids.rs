//! Names: the place in the cluster, the process that fills it now, and the number that fences.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stable name of a place in the cluster, e.g. `b1`: configured, by default the host's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Member(String);

/// A name that cannot be a member's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("member name {name:?} is not usable: take 1 to 40 letters, digits, dots, dashes or underscores")]
pub struct InvalidMember {
    /// The name as it was given.
    pub name: String,
}

/// One process of a member: a UUIDv7, made when it joins and never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(Uuid);

/// A member together with the process that fills it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// The place.
    pub member: Member,
    /// The process.
    pub incarnation: Incarnation,
}

/// The fencing token: a number that only ever rises. 0 means that nobody has led yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(i64);

// === impl Member ===

impl Member {
    /// The longest name: `baton/{member}/identity` has to fit PostgreSQL's 63 bytes of `application_name`.
    const MAX_LEN: usize = 40;

    /// Takes a name of 1 to 40 letters, digits, dots, dashes or underscores.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidMember> {
        let name = name.into();
        let fits = (1..=Self::MAX_LEN).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits { Ok(Self(name)) } else { Err(InvalidMember { name }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Member {
    type Error = InvalidMember;

    fn try_from(name: String) -> Result<Self, InvalidMember> {
        Self::new(name)
    }
}

impl From<Member> for String {
    fn from(member: Member) -> Self {
        member.0
    }
}

impl std::str::FromStr for Member {
    type Err = InvalidMember;

    fn from_str(name: &str) -> Result<Self, InvalidMember> {
        Self::new(name)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Incarnation ===

impl Incarnation {
    /// Makes the id of a new process.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Takes an id read from a store.
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// The id.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl Default for Incarnation {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Instance ===

impl Instance {
    /// A new process of a member.
    pub fn new(member: Member) -> Self {
        Self { member, incarnation: Incarnation::new() }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.member, self.incarnation)
    }
}

// === impl Epoch ===

impl Epoch {
    /// Nobody has led yet.
    pub const ZERO: Self = Self(0);

    /// The largest epoch: Redis scripts compute in doubles, which are exact up to 2⁵³.
    pub const MAX: Self = Self(1 << 53);

    /// Takes a number read from a store.
    pub const fn new(value: i64) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The next epoch; at `MAX` there is none.
    pub fn next(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_name_is_bounded() {
        assert!(Member::new("b1").is_ok());
        assert!(Member::new("baton-0.zone_a").is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(41)] {
            assert!(Member::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(serde_json::from_str::<Member>("\"a b\"").is_err());
    }

    #[test]
    fn an_instance_shows_member_and_incarnation() {
        let instance = Instance::new(Member::new("b1").unwrap());
        assert_eq!(instance.to_string(), format!("b1/{}", instance.incarnation));
    }

    #[test]
    fn epochs_end_at_the_largest_exact_double() {
        assert_eq!(Epoch::ZERO.next(), Some(Epoch::new(1)));
        assert_eq!(Epoch::MAX.next(), None);
    }
}
