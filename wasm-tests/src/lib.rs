//! A fake proxy-wasm host.
