-- Custody: what leads while stored state does not add up, and what it may do (HA.md rule 14).
-- Everything is added, nothing changed: a version that knows none of it does not trade into damaged state at all.

-- Beside the switches and for the same reason: the journal statement locks this row, so no order of a forbidden class is
-- committed after the finding was.
ALTER TABLE leadership
    ADD COLUMN custody       text,
    ADD COLUMN custody_since timestamptz;
COMMENT ON COLUMN leadership.custody IS
    'What a leader found in stored state (VALIDATION_FAILED, DATA_CORRUPT): operator''s orders, and stops of positions that
    agree with the broker, until a leader finds it whole. NULL = nothing.';

ALTER TABLE order_intent ADD COLUMN custody boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN order_intent.custody IS
    'A sale by the broker''s verified book, of no position of the ledger: a repair books it like a sale by hand.';

-- A follower's finding: the leader looks again when the number has risen, and its own finding decides.
CREATE SEQUENCE damage_report_number;
CREATE TABLE damage_report (
    member      text        PRIMARY KEY,
    number      bigint      NOT NULL DEFAULT nextval('damage_report_number'),
    incarnation uuid        NOT NULL,
    code        text        NOT NULL,
    sentence    text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE damage_report IS 'The last time a member that follows found stored state damaged, and what it found.';
