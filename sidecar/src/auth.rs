//! Who a caller is, for whatever face of the sidecar asks: [`jwt`] checks tokens that others signed, [`claims`] looks into
//! them. Tokens that the configuration lists are `listeners::auth`'s.

pub mod claims;
pub mod jwt;
