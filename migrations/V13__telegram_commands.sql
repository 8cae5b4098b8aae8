-- Operators' commands by Telegram: each is acted on at most once, whichever instance reads it and whatever dies.
--
-- Taking a command moves the bot's offset in the statement that stores it (src/ledger/telegram.rs), under the epoch, so
-- that no answer that was lost and no failover brings it a second time. What a leader took and did not answer its
-- successor answers for it.

CREATE TABLE telegram_bot (
    bot         bigint      PRIMARY KEY,
    next_update bigint      NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE telegram_bot IS 'How far a bot''s updates have been taken.';
COMMENT ON COLUMN telegram_bot.taken_at IS
    'After a week without updates the Bot API goes on with a random number, maybe a lower one: an old offset counts no more.';

CREATE TABLE telegram_command (
    bot          bigint      NOT NULL,
    update_id    bigint      NOT NULL,
    chat         bigint      NOT NULL,
    sender       bigint      NOT NULL,
    actor        text        NOT NULL,
    command      text        NOT NULL,
    epoch        bigint      NOT NULL,
    state        text        NOT NULL DEFAULT 'taken' CHECK (state IN ('taken', 'done', 'answered', 'dropped')),
    code         text,
    code_until   timestamptz,
    code_used_by bigint,
    outcome      text,
    taken_at     timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    PRIMARY KEY (bot, update_id),
    CHECK ((code IS NULL) = (code_until IS NULL)),
    CHECK (code_used_by IS NULL OR code IS NOT NULL)
);
CREATE INDEX telegram_command_open ON telegram_command (bot) WHERE state IN ('taken', 'done');
CREATE INDEX telegram_command_code ON telegram_command (bot, chat, sender) WHERE code IS NOT NULL AND code_used_by IS NULL;
COMMENT ON TABLE telegram_command IS 'A command from an allowed chat, and what came of it.';
COMMENT ON COLUMN telegram_command.state IS
    'taken: being acted on; done: it acted, the answer is not queued yet; dropped: its leader ended first, it never acts any more.';
COMMENT ON COLUMN telegram_command.code IS 'What confirms it, by the same sender in the same chat, once, until code_until.';
COMMENT ON COLUMN telegram_command.code_used_by IS 'The update that confirmed it; set in the statement that takes that update.';

ALTER TABLE notification_outbox ADD COLUMN recipient text;
COMMENT ON COLUMN notification_outbox.recipient IS 'The chat that a reply goes to; null: the channel''s own.';
