//! Guards that a test removes from the simulated wiring, to see that the checker can fail.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The journal statement checks the epoch without locking the row, on a session of a pool. (On the pinned
    /// session the pin alone keeps the next leader out until the statement has ended.)
    NoRowLock,
    /// Sends are not checked against the deadline.
    NoDeadline,
    /// The deadline counts from the heartbeat's answer.
    DeadlineFromAnswer,
    /// A follower takes a missing lease for a dead leader.
    MissingKeyIsEvidence,
    /// The heartbeat goes on without the engine.
    UngatedHeartbeat,
    /// The journal runs on a session of a pool.
    JournalOnPool,
    /// The same, with the row lock: S9 is lost, S3 is not.
    LockedJournalOnPool,
    /// The epoch comes from Redis alone.
    EpochFromRedis,
    /// A stale candidate ends the session that the row names, and no other.
    EvictsOnlyTheRowsSession,
    /// A follower calls a leader stale after a third of T.
    ImpatientFollower,
    /// One that was told to stop leaves as a follower whether or not anybody leads.
    LeavesUnassured,
}
