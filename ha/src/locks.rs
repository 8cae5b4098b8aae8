//! Advisory lock ids. All are 64-bit session locks in the agent's own database, so two clusters on one
//! PostgreSQL server do not meet.
//!
//! | lock | id | held by |
//! |---|---|---|
//! | [`PIN`] | FNV-1a of `baton/pin` | the leader's pinned session |
//! | [`member`] | FNV-1a of `baton/member/{member}` | the identity session of the member's live process |
//! | [`MIGRATION`] | FNV-1a of `baton/migration` | whoever migrates the schema |
//!
//! The pin does not depend on the cluster's name: a database has one leadership row, so it has one pin, and a
//! process of another cluster that was pointed at it by mistake cannot lead beside.

/// The session pin: held means that a leader, or a candidate on its way, is there.
pub const PIN: i64 = fnv1a("baton/pin", "");

/// Held while the schema is migrated; the migration tool itself takes no lock.
pub const MIGRATION: i64 = fnv1a("baton/migration", "");

/// The NOTIFY channel on which everything about leadership is announced (the payload is for people).
pub const CHANNEL: &str = "baton_ha";

/// The lock of a member's one live process.
pub const fn member(name: &str) -> i64 {
    fnv1a("baton/member/", name)
}

const fn fnv1a(prefix: &str, name: &str) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut part = prefix.as_bytes();
    let mut parts = 0;
    loop {
        let mut i = 0;
        while i < part.len() {
            hash = (hash ^ part[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        if parts == 1 {
            return hash.cast_signed();
        }
        part = name.as_bytes();
        parts = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_distinct() {
        // Changing one would let two versions of the agent lead side by side.
        assert_eq!(PIN, fnv1a("baton/", "pin"));
        assert_eq!(fnv1a("", ""), 0xcbf2_9ce4_8422_2325_u64.cast_signed());
        assert_eq!(fnv1a("a", ""), 0xaf63_dc4c_8601_ec8c_u64.cast_signed());
        let all = [PIN, MIGRATION, member("b1"), member("b2")];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }
}
