//! The few functions of WASI preview 1 that Rust's standard library needs, as Envoy has them: no files, standard
//! output and error go to the log, no environment, no arguments.

use wasmtime::Linker;

use super::general::nanoseconds;
use crate::{
    memory::{Call, read, read_text, write, write_u32},
    state::State,
    status::Status,
};

const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const NOT_SUPPORTED: u32 = 58;

pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut call: Call<'_>, fd: u32, parts: u32, count: u32, written_at: u32| {
            // Standard output is info, standard error is error.
            let level = match fd {
                1 => 2,
                2 => 4,
                _ => return BAD_FILE,
            };
            let text = match gather(&call, parts, count) {
                Ok(text) => text,
                Err(_) => return FAULT,
            };
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            call.data_mut().log(level, text.trim_end_matches('\n').to_owned());
            errno(write_u32(&mut call, written_at, len))
        },
    )?;
    linker.func_wrap(
        WASI,
        "clock_time_get",
        |mut call: Call<'_>, clock: u32, _precision: u64, at: u32| {
            if clock > 1 {
                return NOT_SUPPORTED;
            }
            let now = nanoseconds(call.data());
            errno(write(&mut call, at, &now.to_le_bytes()))
        },
    )?;
    linker.func_wrap(WASI, "random_get", |mut call: Call<'_>, at: u32, len: u32| {
        let bytes = (0..len).map(|_| random(call.data_mut())).collect::<Vec<_>>();
        errno(write(&mut call, at, &bytes))
    })?;
    for (sizes, contents) in [
        ("environ_sizes_get", "environ_get"),
        ("args_sizes_get", "args_get"),
    ] {
        linker.func_wrap(WASI, sizes, |mut call: Call<'_>, count_at: u32, size_at: u32| {
            let both = write_u32(&mut call, count_at, 0).and_then(|()| write_u32(&mut call, size_at, 0));
            errno(both)
        })?;
        linker.func_wrap(WASI, contents, |_: Call<'_>, _array: u32, _texts: u32| SUCCESS)?;
    }
    linker.func_wrap(
        WASI,
        "proc_exit",
        |_: Call<'_>, code: u32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::msg(format!(
                "the filter called proc_exit({code})"
            )))
        },
    )?;
    Ok(())
}

fn gather(call: &Call<'_>, parts: u32, count: u32) -> Result<String, Status> {
    let mut text = String::new();
    for part in read(call, parts, count.saturating_mul(8))?.chunks_exact(8) {
        let (at, len) = part.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
        text.push_str(&read_text(call, number(at), number(len))?);
    }
    Ok(text)
}

/// Not random, so that tests repeat themselves; a step of SplitMix64.
fn random(state: &mut State) -> u8 {
    state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state.random ^ (state.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 56) as u8
}

fn errno(done: Result<(), Status>) -> u32 {
    match done {
        Ok(()) => SUCCESS,
        Err(_) => FAULT,
    }
}
