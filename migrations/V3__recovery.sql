-- What recovery reads of the orders of the last days, without walking through all of their history.

CREATE INDEX order_intent_journaled ON order_intent (journaled_at);
