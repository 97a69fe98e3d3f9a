//! The stores in maps, for simulation and tests.
