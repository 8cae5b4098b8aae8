-- What went wrong, what the operator was told of it, and what is still to be delivered.
--
-- An occurrence is recorded and the decision to notify is made in one statement (src/ledger/errors.rs): the row of the
-- key is locked by its own update, so of any number of instances exactly one decides, on the database's clock. A decided
-- notification waits in notification_item until its neighbours are in (aggregation), then becomes one message a channel
-- in notification_outbox, which any instance may claim and deliver.

CREATE TABLE error_notifications_log (
    id                     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    error_type             text        NOT NULL,
    scope                  text        NOT NULL DEFAULT '',
    severity               text        NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    error_message          text        NOT NULL,
    first_occurrence       timestamptz NOT NULL,
    last_occurrence        timestamptz NOT NULL,
    occurrence_count       bigint      NOT NULL CHECK (occurrence_count > 0),
    last_notification_sent timestamptz,
    notification_count     bigint      NOT NULL DEFAULT 0 CHECK (notification_count >= 0),
    resolved               boolean     NOT NULL DEFAULT false,
    resolved_at            timestamptz,
    acknowledged_at        timestamptz,
    acknowledged_by        text,
    open_since             timestamptz NOT NULL,
    open_count             bigint      NOT NULL CHECK (open_count > 0),
    reported_by            text[]      NOT NULL DEFAULT '{}',
    told                   boolean     NOT NULL DEFAULT false,
    owed                   boolean     NOT NULL DEFAULT false,
    window_seconds         double precision NOT NULL CHECK (window_seconds >= 0),
    decision               uuid,
    UNIQUE (error_type, scope),
    CHECK (resolved = (resolved_at IS NOT NULL)),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CHECK (NOT (owed AND resolved))
);
CREATE INDEX error_notifications_log_open ON error_notifications_log (error_type) WHERE NOT resolved;
CREATE INDEX error_notifications_log_last ON error_notifications_log (last_occurrence DESC);

COMMENT ON TABLE error_notifications_log IS
    'One row per kind and scope of trouble, whatever its text: how often, since when, told when, over when.';
COMMENT ON COLUMN error_notifications_log.scope IS
    'Empty for what concerns a whole instance or cluster; else the symbol, intent or code it is about.';
COMMENT ON COLUMN error_notifications_log.last_notification_sent IS
    'When the last notification was decided; its delivery is notification_outbox''s business. At most one per window.';
COMMENT ON COLUMN error_notifications_log.open_since IS 'When the present episode began: the first occurrence after the last end.';
COMMENT ON COLUMN error_notifications_log.reported_by IS
    'Who says so, as member/source. Over when the last of those that live withdraws it.';
COMMENT ON COLUMN error_notifications_log.told IS 'The present episode was notified, so its end is worth a message, too.';
COMMENT ON COLUMN error_notifications_log.owed IS
    'It came back within its window after its end was told: the operator believes it over, and hears when the window ends.';
COMMENT ON COLUMN error_notifications_log.decision IS 'The batch that decided the last notification.';

CREATE TABLE notification_item (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    error_type  text        NOT NULL,
    scope       text        NOT NULL,
    severity    text        NOT NULL,
    message     text        NOT NULL,
    occurrences bigint      NOT NULL,
    since       timestamptz NOT NULL,
    at          timestamptz NOT NULL,
    seen_by     text        NOT NULL,
    recovered   boolean     NOT NULL DEFAULT false,
    due_at      timestamptz NOT NULL
);
COMMENT ON TABLE notification_item IS
    'Decided notifications that wait for their neighbours; all go into one message as soon as one of them is due.';

CREATE TABLE notification_outbox (
    id              uuid        PRIMARY KEY,
    channel         text        NOT NULL,
    severity        text        NOT NULL,
    types           text[]      NOT NULL,
    subject         text        NOT NULL,
    body            text        NOT NULL,
    state           text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'dead', 'expired')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    uncertain       boolean     NOT NULL DEFAULT false,
    claimed_by      text,
    claimed_until   timestamptz,
    last_error      text,
    finished_at     timestamptz,
    CHECK ((finished_at IS NULL) = (state = 'queued')),
    CHECK ((claimed_by IS NULL) = (claimed_until IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX notification_outbox_queued ON notification_outbox (channel, next_attempt_at) WHERE state = 'queued';
CREATE INDEX notification_outbox_finished ON notification_outbox (finished_at) WHERE state <> 'queued';

COMMENT ON TABLE notification_outbox IS
    'One message to one channel. Its id travels with it: a receiver can tell a repeat. Delivered at least once, or dead.';
COMMENT ON COLUMN notification_outbox.uncertain IS
    'An earlier attempt may have arrived: its claimer died, or no answer came. The next one is marked a possible repeat.';

CREATE TABLE notification_channel (
    channel    text        PRIMARY KEY,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    sent       timestamptz[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON TABLE notification_channel IS
    'The channel''s gate for the whole cluster: closed while the other side asked for a pause, or its flood budget is used.';
COMMENT ON COLUMN notification_channel.sent IS 'Times of the attempts within the last minute.';

CREATE TABLE process_start (
    id              uuid        PRIMARY KEY,
    member          text        NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now(),
    stopped_at      timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);
CREATE INDEX process_start_member ON process_start (member, started_at DESC);
COMMENT ON TABLE process_start IS
    'Each start of a member''s process. Too many within minutes that did not end cleanly are a restart storm.';
COMMENT ON COLUMN process_start.stopped_at IS 'Set by a clean stop only.';
