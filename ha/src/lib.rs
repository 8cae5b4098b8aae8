//! Leader election through Redis locks, authorised and fenced by PostgreSQL; knows nothing of trading.
