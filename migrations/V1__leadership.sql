-- Leadership: who may act for the cluster, proven by a number that only rises.
--
-- One database serves one cluster, so `leadership` has exactly one row. Every write that authorises an action
-- names the epoch it was made under and locks this row FOR SHARE; a promotion locks it FOR UPDATE. The two
-- cannot interleave, so nothing of an old epoch is written after a promotion's commit. The switches are columns
-- of the same row for the same reason: in a table of their own an intent could commit after the halt did.

CREATE TABLE leadership (
    id                    smallint    PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    cluster               text,
    epoch                 bigint      NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    holder_member         text,
    holder_incarnation    uuid,
    backend_pid           integer,
    backend_start         timestamptz,
    acquired_at           timestamptz,
    system_identifier     bigint,
    timeline              text,
    successor_member      text,
    successor_incarnation uuid,
    offer                 uuid,
    successor_since       timestamptz,
    reduce_only           boolean     NOT NULL DEFAULT false,
    halted                boolean     NOT NULL DEFAULT false,
    halt_all              boolean     NOT NULL DEFAULT false,
    paused                boolean     NOT NULL DEFAULT false,
    CONSTRAINT leadership_holder_is_whole
        CHECK ((holder_member IS NULL) = (holder_incarnation IS NULL)),
    CONSTRAINT leadership_backend_is_whole
        CHECK ((backend_pid IS NULL) = (backend_start IS NULL)),
    CONSTRAINT leadership_successor_is_whole
        CHECK ((successor_member IS NULL) = (successor_incarnation IS NULL)
           AND (successor_member IS NULL) = (offer IS NULL)),
    CONSTRAINT leadership_halt_all_implies_halted CHECK (halted OR NOT halt_all)
) WITH (fillfactor = 10);

COMMENT ON TABLE leadership IS
    'The one row that authorises: the epoch (fencing token), its holder, and the operator''s switches.';
COMMENT ON COLUMN leadership.cluster IS
    'Name of the cluster that owns this database; set by the first promotion, a candidate of another name is refused.';
COMMENT ON COLUMN leadership.epoch IS 'Fencing token. Only ever rises; 0 = nobody has led yet.';
COMMENT ON COLUMN leadership.backend_pid IS
    'Server process of the holder''s pinned session; with backend_start it names that session for good.';
COMMENT ON COLUMN leadership.system_identifier IS
    'Database system on which the epoch was minted; another one at the next promotion means PostgreSQL failed over.';
COMMENT ON COLUMN leadership.timeline IS 'WAL timeline on which the epoch was minted (eight hexadecimal digits).';
COMMENT ON COLUMN leadership.successor_incarnation IS
    'Instance the holder offers leadership to; holds others off for at most 500 ms once the pin is free.';
COMMENT ON COLUMN leadership.offer IS 'Identifies one handover offer; the successor copies it to acknowledge.';
COMMENT ON COLUMN leadership.reduce_only IS 'Switch: no entries.';
COMMENT ON COLUMN leadership.halted IS 'Switch: no entries, no signal or strategy exits.';
COMMENT ON COLUMN leadership.halt_all IS 'Switch: halted, and no protective orders either.';
COMMENT ON COLUMN leadership.paused IS 'Switch: no automatic failover; a handover still works.';

CREATE TABLE leader_heartbeat (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    epoch   bigint   NOT NULL DEFAULT 0,
    counter bigint   NOT NULL DEFAULT 0,
    beat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

COMMENT ON TABLE leader_heartbeat IS
    'The leader''s sign of life, in a table of its own so that it never queues behind intents on the leadership row.';
COMMENT ON COLUMN leader_heartbeat.counter IS
    'Bumped on the pinned session; observers watch it change on their own clocks. Never reset.';
COMMENT ON COLUMN leader_heartbeat.beat_at IS 'For people. No decision reads it.';

CREATE TABLE instance (
    incarnation        uuid        PRIMARY KEY,
    member             text        NOT NULL,
    version            text        NOT NULL,
    build              bigint      NOT NULL DEFAULT 0,
    address            text        NOT NULL,
    priority           smallint    NOT NULL CHECK (priority BETWEEN 0 AND 255),
    status             text        NOT NULL CHECK (status IN ('recovering', 'active', 'draining', 'gone')),
    held_down          boolean     NOT NULL DEFAULT false,
    liveness           bigint      NOT NULL DEFAULT 0,
    acknowledged_offer uuid,
    started_at         timestamptz NOT NULL DEFAULT now(),
    status_since       timestamptz NOT NULL DEFAULT now(),
    seen_at            timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX instance_present ON instance (member) WHERE status <> 'gone';
CREATE INDEX instance_member ON instance (member, started_at DESC);

COMMENT ON TABLE instance IS 'Every process that ever joined; a member has at most one row that is not gone.';
COMMENT ON COLUMN instance.build IS 'Orders versions: a higher build is preferred as the next leader.';
COMMENT ON COLUMN instance.priority IS 'Lower stands sooner; 0 never leads.';
COMMENT ON COLUMN instance.status IS 'Only an active instance may stand for election.';
COMMENT ON COLUMN instance.held_down IS 'It lost leadership against its will a moment ago and lets others go first.';
COMMENT ON COLUMN instance.liveness IS 'Bumped by each liveness commit; judged by change on the reader''s own clock.';
COMMENT ON COLUMN instance.acknowledged_offer IS 'The handover offer it accepted last.';
COMMENT ON COLUMN instance.seen_at IS 'For people. No decision reads it.';

CREATE TABLE leadership_history (
    epoch                bigint      PRIMARY KEY,
    member               text        NOT NULL,
    incarnation          uuid        NOT NULL,
    reason               text        NOT NULL
        CHECK (reason IN ('first_start', 'vacant', 'crash', 'stale', 'handover')),
    previous_member      text,
    previous_incarnation uuid,
    gap_ms               bigint      CHECK (gap_ms >= 0),
    started_at           timestamptz NOT NULL DEFAULT now(),
    ended_at             timestamptz,
    end_reason           text,
    CONSTRAINT leadership_history_end_is_whole CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX leadership_history_open ON leadership_history (epoch) WHERE ended_at IS NULL;
CREATE INDEX leadership_history_started ON leadership_history (started_at DESC);

COMMENT ON TABLE leadership_history IS 'One row per epoch: who led, why it began, how long nobody led, why it ended.';
COMMENT ON COLUMN leadership_history.gap_ms IS
    'Milliseconds without a leader, on the new leader''s own clock: from the last sign of the old one that it saw '
    '(pin held, or heartbeat changed) to the promotion. NULL when it saw none.';

CREATE TABLE switch_history (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    switch text        NOT NULL CHECK (switch IN ('reduce_only', 'halted', 'halt_all', 'paused')),
    value  boolean     NOT NULL,
    who    text        NOT NULL,
    why    text        NOT NULL,
    until  timestamptz,
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX switch_history_at ON switch_history (switch, at DESC);

COMMENT ON TABLE switch_history IS 'Who set which switch, why and until when. The value in force is the column in leadership.';

CREATE FUNCTION leadership_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.epoch < OLD.epoch THEN
            RAISE EXCEPTION 'the epoch only rises: % cannot follow %', NEW.epoch, OLD.epoch
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% keeps exactly one row for ever: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE FUNCTION leader_heartbeat_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.counter <= OLD.counter THEN
            RAISE EXCEPTION 'the heartbeat counter only rises: % cannot follow %', NEW.counter, OLD.counter
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% keeps exactly one row for ever: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

INSERT INTO leadership (id) VALUES (1);
INSERT INTO leader_heartbeat (id) VALUES (1);

CREATE TRIGGER leadership_rows BEFORE INSERT OR UPDATE OR DELETE ON leadership
    FOR EACH ROW EXECUTE FUNCTION leadership_guard();
CREATE TRIGGER leadership_truncate BEFORE TRUNCATE ON leadership
    FOR EACH STATEMENT EXECUTE FUNCTION leadership_guard();
CREATE TRIGGER leader_heartbeat_rows BEFORE INSERT OR UPDATE OR DELETE ON leader_heartbeat
    FOR EACH ROW EXECUTE FUNCTION leader_heartbeat_guard();
CREATE TRIGGER leader_heartbeat_truncate BEFORE TRUNCATE ON leader_heartbeat
    FOR EACH STATEMENT EXECUTE FUNCTION leader_heartbeat_guard();
