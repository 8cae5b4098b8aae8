-- Of thousands of rows a recovery looks for few: each of its questions has an index that holds no others. None of them is touched by
-- an order that fills, or by a stop that trails.

CREATE INDEX position_leaving ON position (id) WHERE status <> 'closed' AND (status = 'closing' OR exit_cause IS NOT NULL);

CREATE INDEX position_wished ON position (id) WHERE status <> 'closed' AND close_at IS NOT NULL;

CREATE INDEX order_intent_unfilled ON order_intent (journaled_at) WHERE state IN ('abandoned', 'cancelled', 'rejected');
