-- Which older binaries may go on with this schema (ADR 42). A migration that only adds leaves the row alone; one that takes
-- something away, or changes what it means, sets it to the first version whose binaries do without:
--     UPDATE schema_floor SET version = 34;
CREATE TABLE schema_floor (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version integer  NOT NULL
);
COMMENT ON COLUMN schema_floor.version IS
    'A binary may use this schema if the newest migration that it knows is this one or a later one.';
INSERT INTO schema_floor (version) VALUES (27);
