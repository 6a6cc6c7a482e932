//! The host's side of the proxy-wasm ABI 0.2.1, by capability. A function that is not here is an error that
//! names it when the filter is instantiated.

mod calls;
mod general;
mod http;
mod unused;
mod wasi;

use wasmtime::{Engine, Linker};

use crate::{
    memory::Call,
    state::{Fault, State},
    status::Status,
};

/// Everything that Envoy offers and the filter may use.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    general::define(&mut linker)?;
    http::define(&mut linker)?;
    calls::define(&mut linker)?;
    unused::define(&mut linker)?;
    wasi::define(&mut linker)?;
    Ok(linker)
}

/// Does the work of the host call `name` (unless a test wants another status of it) and gives its
/// status.
fn answer(
    mut call: Call<'_>,
    name: &'static str,
    work: impl FnOnce(&mut Call<'_>) -> Result<(), Status>,
) -> u32 {
    let state = call.data_mut();
    if let Some(Fault { status, times }) = state.faults.get_mut(name).filter(|f| f.times > 0) {
        *times -= 1;
        return *status as u32;
    }
    let status = work(&mut call).err().unwrap_or(Status::Ok);
    status as u32
}
