//! Guards that an exploration can be made without, one at a time: proof that the properties notice.

/// A protocol with one guard removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The journal runs on a pool connection and locks no row (rule 8).
    PoolWithoutRowLock,
    /// The journal runs on the pinned session but locks no row (rule 8, for the switches).
    NoRowLock,
    /// Nothing is checked before the bytes are written: neither the deadline nor the intent's `send_by` (rule 9).
    NoDeadline,
    /// Written bytes live for ever (rule 12).
    UnboundedNetwork,
    /// An order that a reading does not show is sent again (rule 10).
    ResendsAbsent,
    /// The Redis lock alone makes a leader; no pin, no epoch in the journal statement (rules 2, 3, 8).
    RedisAlone,
    /// An eviction ends the session that the row names and no other (rule 6).
    EvictsOnlyTheNamed,
    /// A suspended leader waits for its pin for ever (rule 16).
    NeverGivesUp,
    /// The epoch key in Redis is set, not raised (rule 2).
    RawEpochKey,
    /// The bridge never closes an idle connection (rule 10).
    NoIdleClose,
    /// The old leader of a handover leaves once it has released (rule 19).
    LeavesBeforeSuccessor,
    /// Bytes leave while the journal statement is under way (rule 9).
    SendsFirst,
    /// An order without an answer is taken for not sent (rule 9).
    BelievesSilence,
    /// A takeover counts an inherited order's time from nothing (rule 10).
    InheritsNoTime,
    /// Exits are not counted against what is held (rule 11).
    Oversells,
    /// Unfinished intents are put in doubt on another session than the journal's.
    DoubtsBesideThePin,
    /// An eviction does not compare what it condemned with what is (rule 6).
    EvictsUnseen,
    /// A PostgreSQL that failed over is traded on as before (rule 17).
    TradesAfterFailover,
    /// Reduce-only is lifted as soon as the orders that can be seen are explained (rule 17).
    LiftsReduceOnlyEarly,
    /// Damaged state is traded on (rule 14).
    TradesOnCorrupt,
    /// A leader that is cut from the broker stays (rule 18).
    StaysCutOff,
    /// Flapping is counted and has no consequence (rule 21).
    FlapsOn,
    /// One that was told to stop leaves as a follower without having seen that anybody leads (rule 20).
    LeavesUnassured,
    /// An epoch is announced in Redis though another instance has announced the same (rule 2).
    AnnouncesLoosely,
    /// Fenced statements compare the epoch, and not the holder's incarnation (rule 8).
    FencesByNumber,
}
