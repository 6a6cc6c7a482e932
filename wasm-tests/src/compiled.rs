//! The filter, compiled once for all hosts of a test program.

use std::sync::OnceLock;

use wasmtime::{Config, Engine, Instance, InstancePre, Module, Store};

use crate::{artefact, imports, memory::Guest, state::State};

static COMPILED: OnceLock<Result<InstancePre<State>, String>> = OnceLock::new();

/// A fresh instance of the filter in a store of its own, `_initialize` not yet called.
///
/// # Errors
/// A sentence: no artefact, a stale one, or one that asks for what the host has not.
pub(crate) fn instantiate() -> Result<(Store<State>, Instance), String> {
    let pre = COMPILED.get_or_init(compile).as_ref().map_err(Clone::clone)?;
    let mut store = Store::new(pre.module().engine(), State::default());
    let told = |e: wasmtime::Error| format!("{e:#}");
    store.set_fuel(u64::MAX).map_err(told)?;
    let instance = pre.instantiate(&mut store).map_err(told)?;
    let memory = instance
        .get_memory(&mut store, "memory")
        .ok_or("the filter exports no memory")?;
    let allocate = instance
        .get_typed_func(&mut store, "proxy_on_memory_allocate")
        .or_else(|_| instance.get_typed_func(&mut store, "malloc"))
        .map_err(told)?;
    store.data_mut().guest = Some(Guest { memory, allocate });
    Ok((store, instance))
}

fn compile() -> Result<InstancePre<State>, String> {
    let path = artefact::find()?;
    let told = |e: wasmtime::Error| format!("{}: {e:#}", path.display());
    // Fuel is how instructions are counted.
    let engine = Engine::new(Config::new().consume_fuel(true)).map_err(told)?;
    let module = Module::from_file(&engine, &path).map_err(told)?;
    imports::linker(&engine)
        .and_then(|linker| linker.instantiate_pre(&module))
        .map_err(told)
}
