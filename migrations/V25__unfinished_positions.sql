-- What a recovery reads of positions, however many were ever closed.
CREATE INDEX position_unfinished ON position (opened_at, id) WHERE status <> 'closed';
