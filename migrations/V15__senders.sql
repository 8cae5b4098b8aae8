-- What is known of an order's sender: that it wrote nothing, or that it is no more.
-- Everything is added, nothing changed: a version that knows none of it runs beside one that does.

ALTER TABLE order_intent ADD COLUMN unsent text;
COMMENT ON COLUMN order_intent.unsent IS
    'Its sender''s word that no byte of it left, given when the term that had journaled it was over. Whoever leads acts on it.';

CREATE TABLE sender_process (
    incarnation uuid        PRIMARY KEY,
    boot        text        NOT NULL,
    space       text        NOT NULL,
    pid         integer     NOT NULL CHECK (pid > 0),
    started     bigint      NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sender_process IS
    'A process that has led, as its kernel knows it: from the same boot and the same pid space others can see whether it lives.';
COMMENT ON COLUMN sender_process.space IS 'Its namespaces of pids and time: a pid means nothing elsewhere.';
COMMENT ON COLUMN sender_process.started IS 'Its start in clock ticks since the boot: a pid is used again, this with it is not.';
