//! A webhook and real servers: plain, TLS, slow, broken, behind proxies.

mod faults;
mod proxies;
mod requests;
mod targets;
mod tls;
mod tokens;
mod world;
