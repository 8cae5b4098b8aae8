//! Private PostgreSQL and Redis servers as child processes: for one machine, the demo and the tests.
