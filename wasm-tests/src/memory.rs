//! The guest's memory: every access is checked, and what the guest is given lies where its own allocator put it.

use wasmtime::{Caller, Memory, TypedFunc};

use crate::{state::State, status::Status};

/// What the host needs of an instance, once it exists.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    /// `proxy_on_memory_allocate`, or `malloc` of older SDKs.
    pub(crate) allocate: TypedFunc<u32, u32>,
}

/// A host call under way.
pub(crate) type Call<'a> = Caller<'a, State>;

fn guest(call: &Call<'_>) -> Result<Guest, Status> {
    call.data().guest.clone().ok_or(Status::InternalFailure)
}

/// The `len` bytes at `at`.
pub(crate) fn read(call: &Call<'_>, at: u32, len: u32) -> Result<Vec<u8>, Status> {
    let memory = guest(call)?.memory;
    let at = at as usize;
    let bytes = memory.data(call).get(at..at.saturating_add(len as usize));
    Ok(bytes.ok_or(Status::InvalidMemoryAccess)?.to_vec())
}

/// The text of `len` bytes at `at`; Envoy takes names for UTF-8 as well.
pub(crate) fn read_text(call: &Call<'_>, at: u32, len: u32) -> Result<String, Status> {
    Ok(String::from_utf8_lossy(&read(call, at, len)?).into_owned())
}

/// Overwrites what is at `at`.
pub(crate) fn write(call: &mut Call<'_>, at: u32, bytes: &[u8]) -> Result<(), Status> {
    let memory = guest(call)?.memory;
    memory
        .write(call, at as usize, bytes)
        .map_err(|_| Status::InvalidMemoryAccess)
}

/// Writes a 32-bit number to `at`.
pub(crate) fn write_u32(call: &mut Call<'_>, at: u32, number: u32) -> Result<(), Status> {
    write(call, at, &number.to_le_bytes())
}

/// Gives `bytes` to the guest, who frees them: the pointer is written to `pointer_at`, the length to `len_at`.
/// Nothing is a null pointer, as in Envoy.
pub(crate) fn give(call: &mut Call<'_>, bytes: &[u8], pointer_at: u32, len_at: u32) -> Result<(), Status> {
    let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    let mut pointer = 0;
    if len > 0 {
        let allocate = guest(call)?.allocate;
        pointer = allocate.call(&mut *call, len).map_err(|trap| {
            call.data_mut()
                .misused(format!("allocating {len} bytes trapped: {trap}"));
            Status::InvalidMemoryAccess
        })?;
        write(call, pointer, bytes)?;
    }
    write_u32(call, pointer_at, pointer)?;
    write_u32(call, len_at, len)
}
