//! The parts, started for real.
