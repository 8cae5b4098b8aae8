-- Who reports errors, and when it was last there. What only those report who have been silent for long is over: an instance
-- that died takes nothing back itself. Everything is added: a version that knows none of it runs beside one that does, and a
-- reporter that never marked itself counts as being there.
CREATE TABLE error_reporter (
    member        text        PRIMARY KEY,
    seen_at       timestamptz NOT NULL DEFAULT now(),
    present_since timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE error_reporter IS 'Each member''s last word that it is there, whether it has joined the cluster or not.';
COMMENT ON COLUMN error_reporter.present_since IS
    'Since when without a break. After an outage of the database all were silent: nobody is gone until somebody has been there for long.';
