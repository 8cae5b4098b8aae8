//! Guards that a test build can be run without, one at a time: proof that the tests above notice when one is missing.
//!
//! Present only in builds with the `fail-points` feature, by the environment variable `BATON_MUTANT`; elsewhere every
//! guard stands and the question costs nothing.

/// A build with one guard removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// An order without an answer is sent again (HA.md rule 10).
    ResendsInDoubt,
    /// An order without an answer is taken for not sent (rule 9).
    BelievesSilence,
    /// An order is sent while its journaling is under way (rule 9).
    SendsFirst,
    /// In-doubt orders are not looked for in the books (rule 10).
    AdoptsNothing,
    /// A takeover leaves unfinished intents as they are (rule 12).
    DoubtsNothing,
    /// A signal is acknowledged though it could not be stored (B2).
    AcknowledgesUnstored,
    /// A repeated delivery is another signal (S1).
    ForgetsDeliveries,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ResendsInDoubt,
        Self::BelievesSilence,
        Self::SendsFirst,
        Self::AdoptsNothing,
        Self::DoubtsNothing,
        Self::AcknowledgesUnstored,
        Self::ForgetsDeliveries,
    ];

    /// True when this process runs without the guard.
    #[cfg(feature = "fail-points")]
    pub fn is_on(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("BATON_MUTANT").ok());
        chosen.as_ref().is_some_and(|name| *name == format!("{self:?}"))
    }

    /// Never, in this build.
    #[cfg(not(feature = "fail-points"))]
    #[inline(always)]
    pub const fn is_on(self) -> bool {
        false
    }
}
