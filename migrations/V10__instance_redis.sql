-- Whether an instance reaches Redis is told to the others, so that each can say whether it lacks what another has.

ALTER TABLE instance ADD COLUMN redis boolean;
COMMENT ON COLUMN instance.redis IS
    'Whether it reached Redis within T, as it says itself; NULL = not tried yet.';
