-- What operators do about leadership: members that may not lead, and a record of every command.

CREATE TABLE member_fence (
    member text        PRIMARY KEY,
    who    text        NOT NULL,
    why    text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE member_fence IS
    'Members that an operator put out: they never lead until the row is gone. Written under the leadership row''s lock.';

-- A member that is fenced while it leads loses its epoch to one that nobody holds.
ALTER TABLE leadership_history ALTER COLUMN member DROP NOT NULL;
ALTER TABLE leadership_history ALTER COLUMN incarnation DROP NOT NULL;
ALTER TABLE leadership_history DROP CONSTRAINT leadership_history_reason_check;
ALTER TABLE leadership_history ADD CONSTRAINT leadership_history_reason_check
    CHECK (reason IN ('first_start', 'vacant', 'crash', 'stale', 'handover', 'fenced'));
ALTER TABLE leadership_history ADD CONSTRAINT leadership_history_holder_is_whole
    CHECK ((member IS NULL) = (incarnation IS NULL) AND (member IS NULL) = (reason = 'fenced'));
COMMENT ON COLUMN leadership_history.member IS
    'Who led; NULL for an epoch that was minted only to end the one before (reason fenced).';

CREATE TABLE leadership_command (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verb        text        NOT NULL CHECK (verb IN ('handover', 'fence', 'unfence')),
    member      text,
    epoch       bigint      NOT NULL,
    who         text        NOT NULL,
    why         text        NOT NULL,
    outcome     text,
    at          timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT leadership_command_end_is_whole CHECK ((finished_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX leadership_command_epoch ON leadership_command (epoch);
COMMENT ON TABLE leadership_command IS 'Who asked for which change of leadership, why, and what came of it.';
COMMENT ON COLUMN leadership_command.member IS 'The member it is about; NULL for a handover to whoever is ready.';
COMMENT ON COLUMN leadership_command.epoch IS 'The epoch in force when it was asked for.';
COMMENT ON COLUMN leadership_command.outcome IS 'NULL while it is under way, or if the process died on the way.';

ALTER TABLE instance ADD COLUMN reach boolean;
COMMENT ON COLUMN instance.reach IS
    'Whether it reaches what a leader works with beside the stores, as it says itself; NULL = it does not know.';

-- The last word on a fence is the database's, so that instances of an older version keep to it, too. A promotion holds
-- the row's lock, and so does whoever writes a fence: neither can miss the other.
CREATE OR REPLACE FUNCTION leadership_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.epoch < OLD.epoch THEN
            RAISE EXCEPTION 'the epoch only rises: % cannot follow %', NEW.epoch, OLD.epoch
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF NEW.epoch > OLD.epoch AND NEW.holder_member IS NOT NULL
           AND EXISTS (SELECT 1 FROM member_fence f WHERE f.member = NEW.holder_member) THEN
            RAISE EXCEPTION 'member % is fenced: it does not lead until an operator lifts the fence', NEW.holder_member
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% keeps exactly one row for ever: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
