//! Log, clock, timer, properties, stats, contexts.

use std::time::Duration;

use wasmtime::Linker;

use super::answer;
use crate::{
    memory::{Call, give, read, read_text, write, write_u32},
    state::State,
    status::Status,
};

pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_log",
        |call: Call<'_>, level: u32, at: u32, len: u32| {
            answer(call, "proxy_log", |c| {
                let text = read_text(c, at, len)?;
                c.data_mut().log(level, text);
                Ok(())
            })
        },
    )?;
    linker.func_wrap("env", "proxy_get_log_level", |call: Call<'_>, level_at: u32| {
        answer(call, "proxy_get_log_level", |c| {
            let level = c.data().log_level;
            write_u32(c, level_at, level)
        })
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        |call: Call<'_>, at: u32| {
            answer(call, "proxy_get_current_time_nanoseconds", |c| {
                let now = nanoseconds(c.data());
                write(c, at, &now.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_tick_period_milliseconds",
        |call: Call<'_>, period: u32| {
            answer(call, "proxy_set_tick_period_milliseconds", |c| {
                let state = c.data_mut();
                let (root, now) = (state.acting_root(), state.now);
                let period = Duration::from_millis(u64::from(period));
                if let Some(root) = state.roots.get_mut(&root) {
                    root.tick = Some((period, now + period)).filter(|(period, _)| !period.is_zero());
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap("env", "proxy_set_effective_context", |call: Call<'_>, id: u32| {
        answer(call, "proxy_set_effective_context", |c| {
            if !c.data().exists(id) {
                return Err(Status::BadArgument);
            }
            c.data_mut().effective = id;
            Ok(())
        })
    })?;
    linker.func_wrap("env", "proxy_done", |call: Call<'_>| {
        answer(call, "proxy_done", |_| Err(Status::NotFound))
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |call: Call<'_>, path: u32, path_len: u32, value_at: u32, len_at: u32| {
            answer(call, "proxy_get_property", |c| {
                let path = read(c, path, path_len)?;
                let value = property(c.data_mut(), &path)?;
                give(c, &value, value_at, len_at)
            })
        },
    )?;
    metrics(linker)
}

fn metrics(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |call: Call<'_>, kind: u32, name: u32, len: u32, id_at: u32| {
            answer(call, "proxy_define_metric", |c| {
                let name = read_text(c, name, len)?;
                let id = c.data_mut().metrics.define(kind, name)?;
                write_u32(c, id_at, id)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_increment_metric",
        |call: Call<'_>, id: u32, offset: i64| {
            answer(call, "proxy_increment_metric", |c| {
                c.data_mut().metrics.increment(id, offset)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_record_metric",
        |call: Call<'_>, id: u32, value: u64| {
            answer(call, "proxy_record_metric", |c| {
                c.data_mut().metrics.record(id, value)
            })
        },
    )?;
    linker.func_wrap("env", "proxy_get_metric", |call: Call<'_>, id: u32, at: u32| {
        answer(call, "proxy_get_metric", |c| {
            let value = c.data_mut().metrics.get(id)?;
            write(c, at, &value.to_le_bytes())
        })
    })?;
    Ok(())
}

/// The present time as the filter sees it.
pub(super) fn nanoseconds(state: &State) -> u64 {
    u64::try_from(state.now.as_nanos()).unwrap_or(u64::MAX)
}

/// A property of the acting request. Its path is the parts with a NUL between them.
fn property(state: &mut State, path: &[u8]) -> Result<Vec<u8>, Status> {
    *state.reads.entry(path.to_vec()).or_default() += 1;
    let exchange = state.exchange();
    let value = match (path, exchange) {
        (b"xds\0route_metadata" | b"route_metadata", Some(exchange)) => {
            exchange.request.route_metadata.clone()
        }
        (b"metadata", Some(exchange)) => exchange.request.dynamic_metadata.clone(),
        (b"xds\0route_name" | b"route_name", Some(exchange)) => {
            exchange.request.route_name.clone().into_bytes()
        }
        (b"source\0address", Some(exchange)) if !exchange.request.source.is_empty() => {
            exchange.request.source.clone().into_bytes()
        }
        (b"plugin_name", _) => b"sluice".to_vec(),
        (b"plugin_root_id", _) => Vec::new(),
        _ => return Err(Status::NotFound),
    };
    Ok(value)
}
