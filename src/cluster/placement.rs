//! Rendezvous placement.
