//! What Envoy runs: the callbacks of proxy-wasm, on top of the filter's logic.
//!
//! Nothing in here may panic: a panic ends the worker's VM, and every request in it.

mod answers;
mod bodies;
mod effects;
mod host;
mod http;
mod root;
mod worker;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(root::create);
}}
