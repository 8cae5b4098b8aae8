//! The paper bridge: the OpenAlgo protocol over a simulated market, with injectable faults.
