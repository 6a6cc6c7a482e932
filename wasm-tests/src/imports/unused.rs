//! What the SDK imports in any case and the filter has no use for: calling it is a trap that names it.

use wasmtime::{FuncType, Linker, ValType};

use crate::state::State;

/// The functions, and how many 32-bit parameters each has.
const UNUSED: [(&str, usize); 10] = [
    ("proxy_call_foreign_function", 6),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_get_shared_data", 5),
    ("proxy_grpc_call", 12),
    ("proxy_register_shared_queue", 3),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_set_property", 4),
    ("proxy_set_shared_data", 5),
];

pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for (name, parameters) in UNUSED {
        let kind = FuncType::new(linker.engine(), vec![ValType::I32; parameters], [ValType::I32]);
        linker.func_new("env", name, kind, move |_, _, _| {
            Err(wasmtime::Error::msg(format!(
                "the fake host does not offer {name}"
            )))
        })?;
    }
    Ok(())
}
