//! Headers, bodies and answers of requests.

use wasmtime::Linker;

use super::answer;
use crate::{
    maps::{self, Pairs},
    memory::{Call, give, read, read_text, write_u32},
    request::Reply,
    state::{Action, State},
    status::Status,
};

pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |call: Call<'_>, map: u32, data_at: u32, len_at: u32| {
            answer(call, "proxy_get_header_map_pairs", |c| {
                // A map that cannot be read now is an empty one.
                let pairs = readable(c.data_mut(), map)?.unwrap_or_default();
                let bytes = if pairs.is_empty() {
                    Vec::new()
                } else {
                    maps::encode(&pairs)
                };
                give(c, &bytes, data_at, len_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |call: Call<'_>, map: u32, name: u32, len: u32, data_at: u32, len_at: u32| {
            answer(call, "proxy_get_header_map_value", |c| {
                let name = read(c, name, len)?.to_ascii_lowercase();
                let pairs = readable(c.data_mut(), map)?.ok_or(Status::BadArgument)?;
                let found = pairs
                    .into_iter()
                    .find(|(n, _)| *n == name)
                    .ok_or(Status::NotFound)?;
                give(c, &found.1, data_at, len_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_header_map_pairs",
        |call: Call<'_>, map: u32, data: u32, len: u32| {
            answer(call, "proxy_set_header_map_pairs", |c| {
                let pairs = maps::decode(&read(c, data, len)?);
                *writable(c.data_mut(), map)? = pairs;
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |call: Call<'_>, map: u32, name: u32, len: u32| {
            answer(call, "proxy_remove_header_map_value", |c| {
                let name = read(c, name, len)?.to_ascii_lowercase();
                writable(c.data_mut(), map)?.retain(|(n, _)| *n != name);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |c: Call<'_>, map: u32, n: u32, nl: u32, v: u32, vl: u32| {
            set(c, "proxy_add_header_map_value", map, (n, nl), (v, vl), false)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |c: Call<'_>, map: u32, n: u32, nl: u32, v: u32, vl: u32| {
            set(c, "proxy_replace_header_map_value", map, (n, nl), (v, vl), true)
        },
    )?;
    bodies(linker)?;
    answers(linker)
}

fn set(
    call: Call<'_>,
    host_call: &'static str,
    map: u32,
    name: (u32, u32),
    value: (u32, u32),
    replace: bool,
) -> u32 {
    answer(call, host_call, |c| {
        let name = read(c, name.0, name.1)?.to_ascii_lowercase();
        let value = read(c, value.0, value.1)?;
        let pairs = writable(c.data_mut(), map)?;
        if replace {
            pairs.retain(|(n, _)| *n != name);
        }
        pairs.push((name, value));
        Ok(())
    })
}

fn bodies(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |call: Call<'_>, buffer: u32, start: u32, max: u32, data_at: u32, len_at: u32| {
            answer(call, "proxy_get_buffer_bytes", |c| {
                let bytes = bytes(c.data_mut(), buffer)?;
                let start = start as usize;
                let end = start.saturating_add(max as usize).min(bytes.len());
                let part = bytes.get(start..end).unwrap_or_default();
                give(c, part, data_at, len_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_status",
        |call: Call<'_>, buffer: u32, len_at: u32, flags_at: u32| {
            answer(call, "proxy_get_buffer_status", |c| {
                let len = bytes(c.data_mut(), buffer)?.len();
                write_u32(c, len_at, u32::try_from(len).unwrap_or(u32::MAX))?;
                write_u32(c, flags_at, 0)
            })
        },
    )?;
    Ok(())
}

fn answers(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |call: Call<'_>,
         status: u32,
         details: u32,
         details_len: u32,
         body: u32,
         body_len: u32,
         headers: u32,
         headers_len: u32,
         _grpc_status: i32| {
            answer(call, "proxy_send_local_response", |c| {
                let reply = Reply {
                    status,
                    details: read_text(c, details, details_len)?,
                    body: read(c, body, body_len)?,
                    headers: maps::decode(&read(c, headers, headers_len)?),
                };
                reply_later(c.data_mut(), reply);
                Ok(())
            })
        },
    )?;
    linker.func_wrap("env", "proxy_continue_stream", |call: Call<'_>, stream: u32| {
        answer(call, "proxy_continue_stream", |c| {
            if stream > 1 {
                return Err(Status::BadArgument);
            }
            let state = c.data_mut();
            let id = state.acting();
            if let Some(exchange) = state.exchange() {
                // From here on the filter has let go of the request.
                exchange.headers_readable = false;
                exchange.trailers_readable = false;
                if stream == 0 {
                    state.actions.push_back(Action::Continue(id));
                }
            }
            Ok(())
        })
    })?;
    linker.func_wrap("env", "proxy_close_stream", |call: Call<'_>, _stream: u32| {
        answer(call, "proxy_close_stream", |_| Err(Status::Unimplemented))
    })?;
    Ok(())
}

/// Envoy answers after the callback; whatever the filter returns from it, the request goes no further.
fn reply_later(state: &mut State, reply: Reply) {
    state.stop_iteration = true;
    let id = state.acting();
    match state.exchange() {
        Some(exchange) if exchange.replying || exchange.reply.is_some() => {
            state.misused(format!("context {id} is answered again: {reply}"));
        }
        Some(exchange) => {
            exchange.replying = true;
            state.actions.push_back(Action::Reply(id, reply));
        }
        // Envoy says OK and does nothing.
        None => state.misused(format!("an answer to context {id}, which is no request: {reply}")),
    }
}

/// The map that the getters give now; `None` where there is none.
fn readable(state: &mut State, map: u32) -> Result<Option<Pairs>, Status> {
    if map > 7 {
        return Err(Status::BadArgument);
    }
    match map {
        4 => return Ok(state.stream_headers.clone()),
        6 => return Ok(state.call_answer.as_ref().map(|answer| answer.headers.clone())),
        5 | 7 => return Ok(None),
        _ => {}
    }
    let Some(exchange) = state.exchange() else {
        return Ok(None);
    };
    Ok(match map {
        0 if exchange.headers_readable => Some(exchange.request.headers.clone()),
        1 if exchange.trailers_readable => Some(exchange.request.trailers.clone()),
        2 => exchange.response_headers.clone(),
        _ => None,
    })
}

/// The map that the setters change now.
fn writable(state: &mut State, map: u32) -> Result<&mut Pairs, Status> {
    let exchange = state.exchange().ok_or(Status::BadArgument)?;
    match map {
        0 if exchange.headers_readable => Ok(&mut exchange.request.headers),
        1 if exchange.trailers_readable => Ok(&mut exchange.request.trailers),
        2 => exchange.response_headers.as_mut().ok_or(Status::BadArgument),
        _ => Err(Status::BadArgument),
    }
}

/// The bytes of a buffer now.
fn bytes(state: &mut State, buffer: u32) -> Result<Vec<u8>, Status> {
    match buffer {
        0 => Ok(state
            .exchange()
            .map(|exchange| exchange.body.clone())
            .unwrap_or_default()),
        1 => Ok(state
            .exchange()
            .and_then(|exchange| exchange.response_body.clone())
            .unwrap_or_default()),
        4 => Ok(state.call_answer.as_ref().ok_or(Status::NotFound)?.body.clone()),
        5 => Ok(state.stream_message.clone().unwrap_or_default()),
        6 => Ok(Vec::new()),
        7 => {
            let root = state.configuring.and_then(|id| state.roots.get(&id));
            Ok(root.ok_or(Status::NotFound)?.configuration.clone())
        }
        2 | 3 | 8 => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}
